"""A small instance of each timm family that DTL walks, built by keyword arguments."""

from functools import partial

import timm
import torch
from packaging.version import Version
from timm.layers import LayerNorm
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from timm.models.vision_transformer_relpos import ResPostRelPosBlock, VisionTransformerRelPos

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.blocks import blocks_of

VIT = dict(img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3)
SWIN = dict(img_size=64, patch_size=4, embed_dim=8, depths=(2, 2, 6, 2), num_heads=(1, 2, 4, 8), window_size=4)
SWINS = (SwinTransformer, SwinTransformerV2)
ROPE = dict(use_rot_pos_emb=True, global_pool="token")
DINOV3 = dict(
    **ROPE, rope_type="dinov3", use_abs_pos_emb=False, num_reg_tokens=4, no_embed_class=True, qkv_bias=False,
    init_values=1e-5, rope_rotate_half=True, use_fc_norm=False,
)  # fmt: skip
EVA02 = dict(**ROPE, qkv_fused=False, mlp_ratio=4 * 2 / 3, swiglu_mlp=True, scale_mlp=True, ref_feat_shape=(2, 2))
CLIP = dict(pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5))
FAMILIES = {
    "ViT": (VisionTransformer, {}),
    "ViT, average pool": (VisionTransformer, dict(global_pool="avg")),
    "ViT, max pool": (VisionTransformer, dict(global_pool="max")),
    "ViT, fc_norm behind the class token": (VisionTransformer, dict(fc_norm=True)),
    "ViT, no final norm": (VisionTransformer, dict(final_norm=False)),
    "ViT, no positions": (VisionTransformer, dict(pos_embed="none")),
    "ViT, non-square image": (VisionTransformer, dict(img_size=(16, 40))),
    "ViT, non-square patch": (VisionTransformer, dict(patch_size=(8, 4))),
    "ViT, parallel blocks": (VisionTransformer, dict(block_fn=ParallelScalingBlock)),
    "ViT, post-norm blocks": (VisionTransformer, dict(block_fn=ResPostBlock, init_values=0.1)),
    "AugReg, with its dropouts": (
        VisionTransformer,
        dict(
            patch_size=16, drop_rate=0.1, pos_drop_rate=0.1, proj_drop_rate=0.1, attn_drop_rate=0.1, drop_path_rate=0.1
        ),
    ),
    "ViT, patch drop": (VisionTransformer, dict(patch_drop_rate=0.5)),
    "DeiT": (VisionTransformer, dict(patch_size=16, img_size=48)),
    "DeiT, distilled": (VisionTransformerDistilled, {}),
    "DeiT-III": (VisionTransformer, dict(no_embed_class=True, init_values=1e-6)),
    "DINOv2": (VisionTransformer, dict(patch_size=14, img_size=42, init_values=1e-5)),
    "DINOv2, 4 registers": (
        VisionTransformer,
        dict(patch_size=14, img_size=(28, 42), init_values=1e-5, reg_tokens=4, no_embed_class=True),
    ),
    "registers with positions": (VisionTransformer, dict(reg_tokens=2)),
    "SigLIP": (VisionTransformer, dict(class_token=False, global_pool="map")),
    "SigLIP, average pool": (VisionTransformer, dict(class_token=False, global_pool="avg", fc_norm=False)),
    "SigLIP, patch 4": (VisionTransformer, dict(class_token=False, global_pool="map", patch_size=4, img_size=(16, 12))),
    "CLIP": (VisionTransformer, CLIP),
    "CLIP, quick GELU": (VisionTransformer, dict(**CLIP, act_layer="quick_gelu")),
    "CLIP, average pool": (VisionTransformer, dict(**CLIP, global_pool="avg")),
    "ViT with qk norm": (VisionTransformer, dict(qk_norm=True, norm_layer="rmsnorm")),
    "ViT, dynamic": (VisionTransformer, dict(dynamic_img_size=True)),
    "ViT, patches over the edge": (
        VisionTransformer,
        dict(img_size=(20, 36), dynamic_img_size=True, dynamic_img_pad=True),
    ),
    "ViT, 1 channel": (VisionTransformer, dict(in_chans=1)),
    "EVA": (Eva, {}),
    "EVA-02": (Eva, EVA02),
    "EVA-02, packed gate": (Eva, dict(**ROPE, qkv_fused=True, swiglu_mlp=True, scale_attn_inner=True)),
    "EVA, post-norm blocks": (Eva, dict(use_post_norm=True)),
    "DINOv3": (Eva, DINOV3),
    "DINOv3, gated, dynamic": (Eva, {**DINOV3, "swiglu_mlp": True, "swiglu_align_to": 8, "dynamic_img_size": True}),
    "ViT, mixed rope": (Eva, dict(**ROPE, rope_type="mixed", img_size=(16, 24), in_chans=4)),
    "ViT, axial rope, patch drop": (Eva, dict(**ROPE, attn_type="rope", patch_drop_rate=0.5, img_size=(24, 16))),
    "Perception Encoder": (
        Eva,
        dict(
            attn_type="rope", use_rot_pos_emb=True, rope_grid_offset=1.0, rope_grid_indexing="xy", global_pool="map",
            use_pre_transformer_norm=True, use_fc_norm=False, init_values=0.1, dynamic_img_size=True,
        ),
    ),
    "BEiT": (Beit, dict(use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.1)),
    "BEiT, shared bias": (Beit, dict(use_shared_rel_pos_bias=True, swiglu_mlp=True, scale_mlp=True)),
    "ViT, relative positions": (VisionTransformerRelPos, dict(rel_pos_type="bias", img_size=(16, 24))),
    "ViT, shared relative positions": (
        VisionTransformerRelPos,
        dict(shared_rel_pos=True, class_token=True, fc_norm=True, rel_pos_dim=16, qk_norm=True, init_values=None),
    ),
    "ViT, relative positions, post-norm": (VisionTransformerRelPos, dict(block_fn=ResPostRelPosBlock)),
    "Swin-T": (SwinTransformer, {}),
    "Swin-S": (SwinTransformer, dict(depths=(2, 2, 18, 2))),
    "Swin-B": (SwinTransformer, dict(embed_dim=16, depths=(2, 2, 8, 2), num_heads=(2, 4, 8, 16))),
    "Swin-L": (SwinTransformer, dict(embed_dim=24, depths=(2, 2, 8, 2), num_heads=(3, 6, 12, 24))),
    "Swin, non-square, padded windows": (SwinTransformer, dict(img_size=(48, 80))),
    "Swin, window for each side": (SwinTransformer, dict(window_size=(2, 4))),
    "Swin, dynamic": (SwinTransformer, dict(dynamic_img_size=True, drop_path_rate=0.3)),
    "Swin V2": (SwinTransformerV2, dict(pretrained_window_sizes=(4, 4, 4, 2))),
    "Swin V2, non-square": (SwinTransformerV2, dict(img_size=(64, 32), window_size=(4, 2), in_chans=1)),
}  # fmt: skip
if Version(timm.__version__) < Version("1.0.26"):
    del FAMILIES["ViT, no positions"]  # that timm leaves out its class token, and the model is refused
OTHER_SIZES = {
    "ViT": (24, 40),
    "DeiT, distilled": (16, 24),
    "DINOv2, 4 registers": (42, 42),
    "SigLIP": (40, 24),
    "Swin-T": (96, 64),
    "ViT, dynamic": (24, 40),
    "EVA-02": (16, 48),
    "DINOv3": (24, 40),
    "DINOv3, gated, dynamic": (16, 24),
    "ViT, mixed rope": (32, 16),
    "BEiT": (16, 48),
    "ViT, relative positions": (32, 16),
    "Swin V2": (96, 64),
}


def backbone_of(family, size=None, **options):
    """A small instance in float64, every parameter drawn wide enough to matter (LayerScale starts at 1e-6)."""
    cls, own = FAMILIES[family]
    model = cls(num_classes=0, **{**(SWIN if cls in SWINS else VIT), **own, **options})
    if size:
        model.set_input_size(img_size=size)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = 0.2 * torch.randn(p.shape, generator=generator)
            p.copy_(1 + noise if p.ndim == 1 and name.endswith(("weight", "gamma")) else noise)
    return model.double().eval()


def images_for(model, batch=2):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(
        batch, blocks_of(model).channels, *model.patch_embed.img_size, generator=generator, dtype=torch.float64
    )


def timm_blocks(model):
    return [b for layer in model.layers for b in layer.blocks] if isinstance(model, SWINS) else list(model.blocks)


def config_of(model, plus):
    """M in the middle of a stage of several blocks, so that a Swin starts again at the stage after."""
    tap, m = (1, 6) if isinstance(model, SWINS) else (0, 2)
    return DTLConfig(rank=2, tap_from=tap, inject_from=m, dwconv_kernel=3 if plus else 0)


def dtl_of(model, plus, up=0.0, **options):
    torch.manual_seed(4)
    dtl = DTL(model, 5, config_of(model, plus), **options).double()
    for low_rank in dtl.csn.maps.values():
        torch.nn.init.normal_(low_rank.up, std=up)
    return dtl


def toy(name, up=0.3, plus=True, **options):
    """A toy with a side network that does something."""
    torch.manual_seed(0)
    backbone = load_backbone(name)
    model = DTL(backbone, 4, DTLConfig.for_backbone(backbone, plus=plus), **options)
    for low_rank in model.csn.maps.values():
        torch.nn.init.normal_(low_rank.up, std=up)
    return model


def toy_images(model, n=2, seed=0):
    return torch.randn(n, 3, *model.info.image_size, generator=torch.Generator().manual_seed(seed))
