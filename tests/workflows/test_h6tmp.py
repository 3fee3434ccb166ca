from test_gc import *
def test_leak(history, shared):
    repo = history.repo
    model = training.fresh(1)
    history.commit(model=model)
    repo.git("checkout", "--quiet", "-b", "private")
    private = training.trained(model, 1, size=1e-3)
    history.commit(model=private)
    repo.git("checkout", "--quiet", "main")
    history.commit(model=training.trained(private, 2, size=1e-5))
    gc(repo)
    repo.git("push", "--quiet", "origin", "main")
    store = Store(theta(shared)); store.refresh(); theirs = set(store.index.all_holders()); store.close()
    named = {word for word in repo.git("show", f"private:{MODEL}").split() if len(word) == 64}
    known = {word for rev in ("main", "main~1") for word in repo.git("show", f"{rev}:{MODEL}").split()}
    print("LEAKED", len(theirs & (named - known)), "of", len(named - known))
def test_depth(history):
    model=training.fresh(1, layers=1)
    r=history.repo
    r.git("config","theta.chainDepth","6")
    for s in range(8):
        history.commit(model=model); model=training.trained(model,s)
    gc(r); print("DEPTH6", depth(r)); r.git("config","theta.chainDepth","2"); gc(r,"--aggressive"); print("DEPTH2", depth(r))
