"""Inputs of merges, from normal ones to hard ones, and a measure of how far results are from each other."""

import torch

SHAPES = [(24, 17), (300, 2), (2, 300), (1, 1), (40,), (1,), (2, 3, 4), (0, 3)]

_COARSE = 256


def drawn(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensors(kind, count=2, shape=SHAPES[0]):
    """Return a base and branches.

    ``bfloat16`` and ``few`` have many equal magnitudes of changes. In ``opposed`` the second branch undoes, without any
    rounding, what the first one did; in ``untouched`` it is the base, in ``zeroed`` it is zero. ``denormal`` numbers
    are smaller than float32's normal ones, ``huge`` ones near its largest, and ``spread`` ones of all sizes.
    """
    base, common = drawn(shape, 11), 0.1 * drawn(shape, 12)
    branches = [base + common + 0.1 * drawn(shape, 13 + number) for number in range(count)]
    if kind in ("bfloat16", "few", "opposed"):
        base, *branches = [(each * _COARSE).round() / _COARSE for each in (base, *branches)]
    if kind == "bfloat16":
        base, *branches = [each.bfloat16().float() for each in (base, *branches)]
    if kind == "few":
        branches = [base + (branch - base).sign() * ((branch - base).abs() > 1 / 16) / 8 for branch in branches]
    if kind == "opposed":
        branches[1] = 2 * base - branches[0]
    if kind == "equal":
        branches = [branches[0]] * count
    if kind == "untouched":
        branches[1] = base
    if kind == "zeroed":
        branches[1] = 0 * base
    factor = {"denormal": 2.0**-130, "huge": 2.0**120}.get(kind, 1.0)
    if kind == "spread":
        factor = 2.0 ** (20 * drawn(shape, 10)).round()
    return base * factor, [branch * factor for branch in branches]


KINDS = ["normal", "bfloat16", "few", "opposed", "equal", "untouched", "zeroed", "denormal", "huge", "spread"]


def cases(kind, shapes=SHAPES):
    """Yield bases and branches of a kind: two and three branches of all shapes."""
    for shape in shapes:
        for count in (2, 3):
            yield tensors(kind, count, shape)


def ulps(found, expected, *among):
    """Return the largest difference in units in the last place of float32.

    An element's unit is that of the largest number at its place: in the results, and in what they came from.
    """
    assert found.shape == expected.shape
    if not found.numel():
        return 0.0
    sizes = [each.double().abs() for each in (found, expected, *among)]
    largest = sizes[0]
    for size in sizes[1:]:
        largest = torch.maximum(largest, size)
    unit = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 24).clamp_min(2.0**-149)
    off = (found.double() - expected.double()).abs() / unit
    assert not bool(off.isnan().any())
    return float(off.max())


def largest(*among):
    """Return the largest number of some tensors: the unit for methods that mix all elements of a tensor."""
    return torch.stack([each.abs().max() for each in among if each.numel()] or [torch.zeros(())]).max()
