"""Plans: what they say of a ViT-B/16, and that a real step costs what was planned, to the byte where kernels allow it."""

import json

import pytest
import torch
from toys import SIZES, storage_bytes, toy_model

from dtl_book.experiments.run import LATE_METHODS
from dtl_book.tables import memory as compare
from dtl_core import DTLConfig, load_backbone
from dtl_core.baselines import METHODS, build
from dtl_core.blocks import UnsupportedBackbone
from dtl_core.memory import MIB, largest_batch, largest_fitting, measure_training, plan, plan_training, step
from dtl_core.memory.step import set_attention

# on a CPU dropout keeps more than on CUDA, for which is planned
STILL = {"fact": dict(dropout=0.0)}
ON_A_SWIN = ("full", "linear", "bitfit", "adaptformer", "lora", "ssf", "repadapter", "dtl", "dtl+")
TOYS = [("toy/vit", m) for m in METHODS] + [("toy/swin", m) for m in ON_A_SWIN]


def mib(method, **setting):
    return plan_training(method, "vit_base_patch16_224", **setting).peak_bytes / MIB


def test_the_leaner_dtl_meets_its_targets():
    """ViT-B/16, batch 32, 224 px, 100 classes, fused attention. The plain form was first read as 1,772 MiB."""
    plain, full = mib("dtl", recompute="none"), mib("full")
    assert 1700 < plain < 1800 and 4600 < full < 4700
    assert mib("dtl") <= 1580
    assert mib("dtl", recompute="blocks") <= 910
    assert mib("dtl", precision="bf16") <= 790
    assert mib("dtl", precision="bf16", recompute="blocks") <= min(460, full / 10)


def test_the_first_readings_are_met():
    """Fused attention, fp32: full 4653, BitFit 2735, LoRA 2943; autocast and attention written out: DTL 1.61 GiB."""
    assert mib("full") == pytest.approx(4653, rel=0.01)
    assert mib("bitfit") == pytest.approx(2735, rel=0.01)
    assert mib("lora") == pytest.approx(2943, rel=0.01)
    amp = dict(precision="amp", attention="math")
    assert mib("dtl", recompute="none", **amp) / 1024 == pytest.approx(1.61, abs=0.01)
    assert mib("lora", **amp) / 1024 == pytest.approx(2.87, abs=0.01)
    assert mib("full", keep_gradients=True, **amp) > mib("full", **amp) + 300


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("backbone", "method"), TOYS)
def test_a_real_step_costs_what_was_planned(backbone, method, precision):
    size, options = SIZES[backbone], {"backbone_dtype": torch.bfloat16} if precision == "bf16" else {}
    still = STILL.get(method, {})
    plan = plan_training(method, backbone, batch_size=6, image_size=size, num_classes=4, precision=precision, **still)
    model = toy_model(method, backbone, **options, **still)
    set_attention(model, "fused")
    real = measure_training(model, (torch.randn(6, 3, size, size), torch.arange(6) % 4), precision=precision)
    assert real.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.02)
    assert real.saved_bytes == pytest.approx(plan.saved_bytes, rel=0.02)
    assert real.parameters == plan.parameters


@pytest.mark.parametrize("recompute", ["none", "side", "blocks"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", ["fused", "math"])
def test_every_mode_of_a_dtl_costs_what_was_planned(recompute, checkpointing, attention):
    setting = dict(
        checkpointing=checkpointing, keep_gradients=checkpointing, optimizer="sgd" if checkpointing else "adamw"
    )
    plan = plan_training(
        "dtl+",
        "toy/vit",
        batch_size=8,
        image_size=32,
        num_classes=4,
        attention=attention,
        recompute=recompute,
        **setting,
    )
    model = toy_model("dtl+", recompute=recompute)
    set_attention(model, attention)
    real = measure_training(model, (torch.randn(8, 3, 32, 32), torch.arange(8) % 4), **setting)
    assert real.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("backbone", ["toy/vit", "toy/swin"])
@pytest.mark.parametrize(
    "method, options",
    [("linear", {}), *(("dtl+", dict(recompute=r)) for r in ("none", "side", "blocks"))],
    ids=["linear", "none", "side", "blocks"],
)
def test_a_step_from_a_stored_prefix_costs_what_was_planned(backbone, method, options, precision):
    """Its input are the features, and the frozen blocks up to M are not on the device."""
    size, half = SIZES[backbone], {"backbone_dtype": torch.bfloat16} if precision == "bf16" else {}
    setting = dict(batch_size=6, image_size=size, num_classes=4, precision=precision, **options)
    plan, whole = (plan_training(method, backbone, cached=c, **setting) for c in (True, False))
    model = toy_model(method, backbone, **half, **options)
    set_attention(model, "fused")
    features = model.prefix(torch.randn(6, 3, size, size))
    real = measure_training(model, (features, torch.arange(6) % 4), precision=precision)
    assert real.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.02)
    assert real.setting["cached"] and real.setting["image_size"] == (size, size)
    run = {id(p): p for part in model.suffix_parts() for p in (*part.parameters(), *part.buffers())}
    weights = storage_bytes(p for p in run.values() if not (isinstance(p, torch.nn.Parameter) and p.requires_grad))
    assert (
        plan.by_kind["frozen parameters"] == pytest.approx(weights, abs=2048)
        and weights < whole.by_kind["frozen parameters"]
    )
    tensors = storage_bytes([features.tokens, *features.taps.values()])
    assert plan.by_kind["input"] == tensors + 512, "and the labels"


def test_the_leanest_form_of_all():
    """ViT-B/16, 32 images: by arithmetic 135 MiB of weights and 148 of features, and what blocks recomputed hold."""
    for precision, peak in (("fp32", 475), ("bf16", 238)):
        plan = plan_training("dtl", precision=precision, recompute="blocks", cached=True)
        assert plan.peak_bytes / MIB == pytest.approx(peak, rel=0.01)
        assert plan.by_kind["input"] == pytest.approx(8 * 32 * 197 * 768 * (4 if precision == "fp32" else 2), rel=1e-3)
    with pytest.raises(ValueError, match="lora has no frozen prefix, so there is nothing to store"):
        plan_training("lora", "toy/vit", image_size=32, cached=True)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "amp", "amp-bf16"])
@pytest.mark.parametrize("method", ["full", "lora", "dtl", "dtl+"])
def test_cuda_costs_what_was_planned(method, precision):
    """CUDA's own counter within 5 % of the plan; its kernels' workspaces are not in the plan."""
    setting = dict(batch_size=32, image_size=224, num_classes=100, precision=precision)
    plan = plan_training(method, "vit_small_patch16_224", **setting)
    model = build(method, load_backbone("vit_small_patch16_224", pretrained=False), 100, inplace=True).cuda()
    real = measure_training(model, (torch.randn(32, 3, 224, 224), torch.arange(32)), precision=precision)
    assert real.cuda_peak_bytes == pytest.approx(plan.peak_bytes, rel=0.05)


def held(method, attention="math", change=lambda model: None, **options):
    """Bytes that a step of a ViT-B/16 in fp32 holds for backward, 8 images; ``change`` is made to the model."""
    images, labels = torch.empty(8, 3, 224, 224, device="meta"), torch.zeros(8, dtype=torch.int64, device="meta")
    with torch.device("meta"):
        model = build(method, load_backbone("vit_base_patch16_224", pretrained=False), 10, inplace=True, **options)
    set_attention(model, attention)
    change(model)
    setting = {"optimizer": "adamw", "checkpointing": False, "keep_gradients": False}
    return step.run_step(model.train(), (images, labels), setting, "planned", kernels=plan.CudaKernels()).saved_bytes


def test_dropout_is_planned_as_cuda_has_it():
    """It keeps a byte a number beside what it gives; on the meta device and on a CPU it would keep the factors in full."""

    def in_blocks(name):
        def change(model):
            for block in model.side.blocks:
                part, _, last = name.rpartition(".")
                setattr(block.get_submodule(part), last, torch.nn.Dropout(0.1))

        return change

    def about(a_block):
        return pytest.approx(12 * a_block, abs=12 * 10 * 512)  # storages are rounded up to 512 bytes

    def more(name):
        return held("lst", change=in_blocks(name)) - plain

    tokens, plain = 8 * 197, held("lst")
    # the map behind the softmax is kept for the softmax; the dropped one, and which it dropped, for the product
    assert more("attn.attn_drop") == about(12 * tokens * 197 * (4 + 1))
    # the layer behind the activation keeps the dropped numbers in the place of those before
    assert more("mlp.drop1") == about(tokens * 4 * 96 * 1)
    # a layer's output that is dropped and added: nothing but the byte
    assert more("attn.proj_drop") == about(tokens * 96 * 1)
    # FacT: 3 + 1 + 4 + 1 vectors of 32 numbers a token and block
    assert held("fact") - held("fact", dropout=0.0) == about((3 + 1 + 4 + 1) * tokens * 32 * 1)


def test_memory_falls_as_m_grows_and_with_a_smaller_batch():
    peaks = [
        plan_training("dtl", "toy/vit", image_size=32, config=DTLConfig(inject_from=m)).peak_bytes
        for m in (0, 4, 8, 11)
    ]
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == 4
    a, b, c = (plan_training("lora", "toy/vit", image_size=32, batch_size=n).peak_bytes for n in (16, 32, 48))
    assert a < b < c and (c - b) == pytest.approx(b - a, rel=0.01)


def test_checkpointing_and_attention():
    assert mib("full", checkpointing=True) < 0.45 * mib("full")
    assert mib("lora") < mib("lora", attention="math")


def test_plans_are_the_same_twice_and_need_no_data(monkeypatch, tmp_path):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    first, second = (plan_training("dtl", "packaged/vit-s14", batch_size=4, image_size=98) for _ in range(2))
    assert first == second and first.setting["image_size"] == (98, 98)


def test_the_optimizers_counter_of_steps_can_be_read(monkeypatch):
    """On meta it holds no number, and torch before 2.14 reads it in every step of AdamW."""
    made, make = [], step.make_optimizer
    monkeypatch.setattr(step, "make_optimizer", lambda *args: made.append(make(*args)) or made[-1])
    plan_training("dtl", "toy/vit", image_size=32)
    counters = [state["step"] for state in made[0].state.values()]
    assert counters and {c.device.type for c in counters} == {"cpu"} and {c.item() for c in counters} == {2.0}


def test_wrong_settings_are_named():
    for setting, message in [
        (dict(precision="fp16"), "precision is 'fp16': choose fp32, amp"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(optimizer="lion"), "optimizer is 'lion'"),
        (dict(attention="flash"), "attention is 'flash'"),
        (dict(image_size=30), "not a multiple of the patch size"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan_training("dtl", "toy/vit", **{"image_size": 32, **setting})
    with pytest.raises(UnsupportedBackbone, match="VPT is built for"):
        plan_training("vpt-deep", "toy/swin", image_size=64)
    with pytest.raises(ValueError, match="plan_training plans it on any machine"):
        measure_training(toy_model("dtl"), (torch.randn(2, 3, 32, 32), torch.arange(2)), precision="amp")
    with pytest.raises(ValueError, match="frozen weights are of type float32"):
        measure_training(toy_model("dtl"), (torch.randn(2, 3, 32, 32), torch.arange(2)), precision="bf16")


def test_the_largest_batch_fits_and_the_next_does_not():
    room = 60 * MIB
    setting = dict(image_size=32, num_classes=4)
    fit = largest_batch("lora", "toy/vit", gpu_gib=room / 2**30, reserve_gib=0, **setting)
    assert fit.peak_bytes <= room and fit.largest > 20
    assert plan_training("lora", "toy/vit", batch_size=fit.largest, **setting).peak_bytes == fit.peak_bytes
    assert plan_training("lora", "toy/vit", batch_size=fit.largest + 1, **setting).peak_bytes > room
    assert f"{fit.largest:,} images" in fit.sentence()
    none = largest_batch("lora", "toy/vit", gpu_gib=1e-4, reserve_gib=0, **setting)
    assert none.largest == 0 and "Not even one image" in none.sentence()
    with pytest.raises(ValueError, match="nothing left beside"):
        largest_batch("lora", "toy/vit", gpu_gib=1, **setting)


@pytest.mark.parametrize("method", ["full", "lora", "dtl"])
def test_the_profile_goes_through_the_blocks_and_back(method):
    plan = plan_training(method, "toy/vit", image_size=32)
    there, back = ([r["region"] for r in plan.profile if r["phase"] == p] for p in ("forward", "backward"))
    blocks = [f"block {i}" for i in range(12)]
    assert there == ["embed", *blocks, "readout", "head", "loss"]
    first = 7 if method == "dtl" else 0  # the gradient crosses blocks M + 1 to 11 alone
    assert [r for r in back if r in blocks] == blocks[: first - 1 if first else None : -1]


def test_a_plan_shows_itself():
    plan = plan_training("dtl", "toy/vit", image_size=32)
    assert json.loads(json.dumps(vars(plan)))["peak_bytes"] == plan.peak_bytes
    assert "Planned: dtl on toy/vit, batch 32, 32x32 px, fp32: peak" in plan.sentence()
    page = plan._repr_html_()
    assert plan.sentence() in page and f"<td>{plan.peak_bytes / MIB:,.1f}</td>" in page and "optimizer state" in page


def test_the_command(capsys):
    from dtl_book.cli import main

    toy = ["--backbone", "toy/vit", "--image-size", "32"]
    main(["memory", "--method", "lora", *toy, "--gpu", "2"])
    out = capsys.readouterr().out
    assert "peak" in out and "block 11" in out and "The largest batch that fits a GPU of 2 GiB" in out
    main(["memory", "--method", "dtl", *toy, "--json"])
    assert json.loads(capsys.readouterr().out)["setting"]["options"] == {"recompute": "side"}
    main(["memory", "--compare", "all", "--backbone", "toy/swin", "--image-size", "64"])
    out = capsys.readouterr().out
    assert all(m in out for m in METHODS) and "vpt-deep: not on this backbone" in out
    main(["memory", "--method", "dtl", *toy, "--cached", "--json"])
    assert json.loads(capsys.readouterr().out)["setting"]["cached"] is True


def test_every_method_is_compared_with_the_same_favours():
    plans, _ = compare.plan_methods("toy/vit", progress=False, batch_size=4, image_size=32)
    for method in ("full", "bitfit", "adaptformer", "lora", "ssf", "vpt-deep"):
        assert plans[f"{method}, checkpointing"].setting["checkpointing"]
        assert plans[f"{method}, checkpointing"].saved_bytes < 0.3 * plans[method].saved_bytes
    plain, side, blocks, cached = (p.peak_bytes for label, p in plans.items() if label.startswith("dtl,"))
    assert plain > side > blocks > cached
    assert {"linear", "lst"} < plans.keys() and not {"linear, checkpointing", "lst, checkpointing"} & plans.keys()
    only, _ = compare.plan_methods("toy/vit", progress=False, checkpointing=True, batch_size=4, image_size=32)
    assert all(plan.setting["checkpointing"] for plan in only.values()) and len(only) == len(METHODS)


def test_late_rivals_are_compared_with_the_same_favours_and_sizes():
    plans, reasons = compare.plan_methods("toy/vit", late=True, progress=False, batch_size=4, image_size=32)
    assert not reasons and next(iter(plans)) == "full"
    late = [label for label in plans if " from block 7" in label and "," not in label]
    assert {label.split()[0] for label in late} == {*LATE_METHODS}
    for label in late:
        plain, again, cached = (plans[label + form] for form in ("", ", checkpointing", ", cached prefix"))
        assert again.saved_bytes < plain.saved_bytes and cached.peak_bytes < plain.peak_bytes
        assert plain.setting["options"]["first_block"] == 7
    dtl = plans["dtl, plain"].parameters
    for method, name in (("lora", "rank"), ("adaptformer", "bottleneck")):
        (label,) = (label for label in late if f"{method} from block 7 ({name}" in label)
        nearest = abs(plans[label].parameters - dtl)
        size = plans[label].setting["options"][name]
        for other in (size - 1, size + 1) if size > 1 else (size + 1,):
            plan = plan_training(method, "toy/vit", batch_size=4, image_size=32, first_block=7, **{name: other})
            assert nearest <= abs(plan.parameters - dtl)


@pytest.mark.parametrize("room", [1.0, 1.3, 3.0, 24.0])
def test_the_search_ends_where_small_batches_have_their_peak_in_the_optimizer(room):
    """Bytes that hardly grow up to some batch, and then grow with every image."""
    asked = []

    def peak(batch):
        asked.append(batch)
        return int(max(1.2 * 2**30 + 0.5 * MIB * batch, 0.6 * 2**30 + 11 * MIB * batch))

    found = largest_fitting(peak, (8, 16), room, 0)
    assert len(asked) < 30
    if room == 1.0:
        assert found.largest == 0
        return
    assert peak(found.largest) <= room * 2**30 < peak(found.largest + 1)
    assert found.fixed_bytes + found.image_bytes * found.largest == pytest.approx(peak(found.largest), rel=0.01)


def test_a_method_that_does_not_run_on_a_backbone_does_not_cost_the_others_their_plans(monkeypatch):
    real = compare.plan_training

    def plan(method, *args, **kwargs):
        if method == "lora":
            raise ValueError("this ViT has no attention with a fused qkv layer")
        return real(method, *args, **kwargs)

    monkeypatch.setattr(compare, "plan_training", plan)
    plans, reasons = compare.plan_methods("toy/vit", recompute="side", progress=False, batch_size=2, image_size=32)
    assert "fused qkv" in reasons["lora"] and {"full", "dtl, plain"} <= plans.keys() and "lora" not in plans
    with pytest.raises(ValueError, match="batch_size"):
        compare.plan_methods("toy/vit", recompute="side", progress=False, batch_size=0, image_size=32)
