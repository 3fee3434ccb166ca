"""Scales of LoRAs in the metadata of safetensors files."""

from __future__ import annotations

import json

import pytest

from git_theta_ext.operations.merge.adapter_scales import scalings_in


def facts(**texts):
    """Return metadata as the safetensors format does: its texts as JSON."""
    return {key: json.dumps(text).encode() for key, text in texts.items()}


def test_kohyas_alpha_and_rank_scale_every_module():
    found = scalings_in(facts(ss_network_alpha="16.0", ss_network_dim="32")).of("lora_unet_mid_block")
    assert (found.rank("lora_unet_mid_block"), found.scale("lora_unet_mid_block")) == (32, 0.5)


def test_diffusers_scales_each_component():
    config = json.dumps({"unet.r": 4, "unet.lora_alpha": 8})
    found = scalings_in(facts(lora_adapter_metadata=config, ss_network_alpha="1", ss_network_dim="1"))
    assert found.of("unet.mid").scale("unet.mid") == 2
    assert found.of("text_encoder.q") is None


@pytest.mark.parametrize(
    "texts",
    [{"ss_network_alpha": "None", "ss_network_dim": "8"}, {"ss_network_alpha": "8", "ss_network_dim": "Dynamic"}],
)
def test_numbers_that_are_none_are_no_scaling(texts):
    assert scalings_in(facts(**texts)).components == ()


def test_other_metadata_says_nothing_of_scales():
    assert scalings_in(facts(format="pt")) is None
