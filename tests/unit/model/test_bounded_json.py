import pytest
from bounds import memory_of

from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.registry import find_format
from git_theta_ext.statistics.sidecar import facts_of
from git_theta_ext.update.files import read_config

COUNT = 1 << 14
BOMBS = {
    "lists": '{"__metadata__":{"a":[' + "[]," * COUNT + "0]}}",
    "objects": '{"__metadata__":{"a":[' + "{}," * COUNT + "0]}}",
    "pairs": '{"__metadata__":{' + '"":0,' * COUNT + '"a":0}}',
    "numbers": '{"__metadata__":{"a":[' + "0," * COUNT + "0]}}",
    "texts": '{"__metadata__":{"a":[' + '"ab",' * COUNT + "0]}}",
    "deep": '{"__metadata__":' + "[" * COUNT,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_json_takes_memory_in_proportion_to_its_size(text):
    head = len(text).to_bytes(8, "little") + text.encode()
    readers = (
        lambda: find_format("safetensors").parse(memoryview(head)),
        lambda: read_config(text.encode(), "x"),
        lambda: facts_of(memoryview(head)),
    )
    assert max(map(memory_of, readers)) < 24 * len(text) + (1 << 17)


def test_headers_of_tensors_stay_below_the_limit():
    tiny = ",".join(f'"{n}":{{"dtype":"U8","shape":[],"data_offsets":[{n},{n + 1}]}}' for n in range(5000))
    assert len(read_json(f"{{{tiny}}}")) == 5000
    texts = ",".join(f'"{n}":"a"' for n in range(5000))
    assert len(read_json(f"{{{texts}}}")) == 5000
