import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from git_theta_ext.util.threads import ordered_map, thread_count


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


def test_threads_follow_the_wish_or_the_processors():
    assert thread_count(3) == 3
    assert thread_count() >= 1
