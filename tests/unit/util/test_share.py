"""Work is counted as a share of other work."""

from git_theta_ext.util.share import Share


def test_all_of_the_work_counts_for_what_it_is_worth_and_no_more():
    told = []
    share = Share(told.append, 10, lambda: 300)
    for _ in range(300):
        share(1)
    assert told == [1] * 10
    share(500)
    share.finish()
    assert told == [1] * 10


def test_a_total_that_grows_takes_nothing_back():
    told, total = [], [10]
    share = Share(told.append, 100, lambda: total[0])
    share(5)
    total[0] = 1000
    share(5)
    assert sum(told) == 50
    share.finish()
    assert sum(told) == 100


def test_work_without_bytes_counts_when_it_is_finished():
    told = []
    share = Share(told.append, 7, lambda: 0)
    share(0)
    share.finish()
    assert told == [7]
