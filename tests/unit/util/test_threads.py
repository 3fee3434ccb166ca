import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from git_theta_ext.util.threads import ALONE, TOGETHER, batched_map, ordered_map, pool, thread_count


def test_results_come_in_order_with_a_bounded_number_begun():
    begun, taken, most = [], [], []

    def work(number):
        begun.append(number)
        return number

    with ThreadPoolExecutor(4) as executor:
        for result in ordered_map(executor, work, range(50), window=5):
            taken.append(result)
            most.append(len(begun) - len(taken))
    assert taken == list(range(50))
    assert max(most) <= 5


def test_a_failure_reaches_the_consumer_and_no_work_is_left_running():
    running = threading.Semaphore(0)

    def work(number):
        if number == 3:
            raise ValueError("three")
        running.release()
        return number

    with ThreadPoolExecutor(2) as executor, pytest.raises(ValueError, match="three"):
        list(ordered_map(executor, work, range(1000), window=4))
    assert running._value < 1000


@pytest.mark.parametrize(
    ("sizes", "tasks"),
    [([1] * 100, 1), ([TOGETHER] * 3, 3), ([1, TOGETHER, 1, 1], 3), ([TOGETHER // 2] * 4, 2), ([0], 1), ([], 0)],
)
def test_small_items_share_a_task(sizes, tasks):
    class Counting(ThreadPoolExecutor):
        tasks = 0

        def submit(self, *args, **kwargs):
            self.tasks += 1
            return super().submit(*args, **kwargs)

    items = list(enumerate(sizes))
    with Counting(2) as executor:
        results = list(batched_map(executor, lambda item: item[0], items, 4, size=lambda item: item[1]))
        assert (results, executor.tasks) == (list(range(len(sizes))), tasks)


def test_tasks_of_small_items_end_with_their_consumer():
    running = threading.Semaphore(0)

    def work(number):
        running.release()
        return number

    with ThreadPoolExecutor(2) as executor:
        results = batched_map(executor, work, range(1000), 4, size=lambda _: TOGETHER)
        assert next(results) == 0
        results.close()
        assert running._value <= 5


def test_threads_follow_the_wish_or_the_processors():
    assert thread_count(3) == 3
    assert thread_count() >= 1


def test_small_work_is_done_by_the_caller():
    with pool(2, ALONE) as none, pool(2, ALONE + 1) as executor:
        assert none is None
        callers = [set(ordered_map(one, lambda _: threading.get_ident(), range(3), 2)) for one in (none, executor)]
    assert callers[0] == {threading.get_ident()}
    assert threading.get_ident() not in callers[1]


def test_small_work_begins_when_its_result_is_asked_for():
    begun = []
    results = batched_map(None, begun.append, range(3), 2, size=lambda _: TOGETHER)
    assert begun == []
    next(results)
    assert begun == [0]
