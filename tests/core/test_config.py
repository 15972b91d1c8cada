"""Configurations: what is refused, the paper's, and what is made of another depth."""

import warnings

import pytest
from families import backbone_of, images_for

from dtl_core import DTL, DTLConfig, load_backbone


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(rank=0), "rank is 0: .* at least 1"),
        (dict(tap_from=-1), "counted from 0: tap_from=-1"),
        (dict(inject_from=-2), "inject_from=-2"),
        (dict(tap_from=7), "tap_from=7 lies after inject_from=6.*lower tap_from or raise inject_from"),
        (dict(dwconv_kernel=-3), "dwconv_kernel is -3: take 0 for DTL"),
    ],
)
def test_a_config_that_makes_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        DTLConfig(**options)


def test_the_papers_configurations():
    assert DTLConfig.paper("vit") == DTLConfig() == DTLConfig(2, 0, 6, 100.0, 0)
    assert DTLConfig.paper("vit", plus=True) == DTLConfig(2, 0, 6, 100.0, 3)
    assert DTLConfig.paper("swin") == DTLConfig(4, 4, 14, 100.0, 0)
    assert DTLConfig.paper("swin", plus=True) == DTLConfig(4, 4, 14, 100.0, 5)
    with pytest.raises(ValueError, match="'vit' and 'swin', not 'resnet'"):
        DTLConfig.paper("resnet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DTLConfig.for_backbone(load_backbone("toy/vit"), plus=True) == DTLConfig.paper("vit", plus=True)
        assert DTLConfig.for_backbone(load_backbone("toy/swin")) == DTLConfig.paper("swin")
        assert DTL("toy/swin", 4).config == DTLConfig.paper("swin")


@pytest.mark.parametrize(
    "family, depth, tap, m", [("ViT", 24, 0, 12), ("ViT", 4, 0, 2), ("ViT", 1, 0, 0), ("Swin-T", None, 2, 7)]
)
def test_another_depth_is_ours_and_says_so(family, depth, tap, m):
    backbone = backbone_of(family, **(dict(depth=depth) if depth else {}))
    with pytest.warns(UserWarning, match=f"M = {m} is ours, not the paper's"):
        config = DTLConfig.for_backbone(backbone)
    assert (config.tap_from, config.inject_from, config.rank) == (tap, m, 4 if family == "Swin-T" else 2)
    assert DTL(backbone, 3, config).double()(images_for(backbone)).shape == (2, 3)
