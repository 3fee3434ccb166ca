from git_theta_ext.git.commit_subset import nearest_parents

#   a - b - c - m - d      m merges c and y; x is on the side from a, y on that of x
HISTORY = [("a", []), ("b", ["a"]), ("c", ["b"]), ("x", ["a"]), ("y", ["x"]), ("m", ["c", "y"]), ("d", ["m"])]


def test_edges_skip_the_commits_that_are_not_chosen():
    assert nearest_parents(HISTORY, {"a", "c", "d"}) == {"a": [], "c": ["a"], "d": ["c"]}


def test_a_side_without_chosen_commits_is_no_edge():
    assert nearest_parents(HISTORY, {"a", "b", "m"}) == {"a": [], "b": ["a"], "m": ["b"]}
    assert nearest_parents(HISTORY, {"a", "b", "y", "d"}) == {"a": [], "b": ["a"], "y": ["a"], "d": ["b", "y"]}


def test_commits_without_chosen_ancestors_are_roots():
    assert nearest_parents(HISTORY, {"c", "x"}) == {"c": [], "x": []}
    assert nearest_parents(HISTORY[1:], {"c"}) == {"c": []}  # a parent that is not in the history
