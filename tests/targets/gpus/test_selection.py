"""GPUs in a scientist's terms: what a site has, which will do, and what is said where none will."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import UsageError
from mlnb.targets.batch.systems.slurm.nodes import Node
from mlnb.targets.gpus.kinds import GpuKind, configured, discover
from mlnb.targets.gpus.models import format_gpu_memory, parse_capability, parse_gpu_name
from mlnb.targets.gpus.selection import GpuRequest, GpuSelection, select, selection_for
from mlnb.task import Resources

GB = 10**9

SITE = yaml.safe_load("""
gpus:
  - {type: a100, memory: 80GB, capability: 8.0, directive: "--gres=gpu:a100:{count}"}
  - {type: a100-mig, memory: 10GB, capability: 8.0, directive: "--gres=gpu:1g.10gb:{count}"}
  - {type: v100, memory: 32GB, capability: 7.0, directive: "--constraint=v100 --gres=gpu:{count}"}
""")
SITE_NODES = (
    Node("big", gpus={"a100": 4}, features=("a100",)),
    Node("sliced", gpus={"1g.10gb": 7}),
    Node("old1", gpus={"": 2}, features=("v100",)),
    Node("old2", gpus={"": 2}, features=("v100", "ib")),
)
MIXED = (
    Node("node1", gpus={"a100": 2}, features=("a100", "gpu80g")),
    Node("node2", gpus={"a100": 2}, features=("a100", "gpu40g")),
    Node("node3", gpus={"v100": 4}, features=("v100", "gpu32g")),
)


def refusal(asked: GpuRequest, nodes: tuple[Node, ...] = MIXED, kinds: tuple[GpuKind, ...] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        select(asked, discover(nodes) if kinds is None else kinds, nodes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(choice: GpuSelection) -> list[str]:
    return [kind.type for kind in choice.kinds]


@pytest.mark.parametrize(
    ("text", "name", "memory", "capability", "part", "sure"),
    [
        ("NVIDIA-A100-SXM4-80GB", "a100", 80, (8, 0), "", True),
        ("NVIDIA_H100_80GB_HBM3", "h100", 80, (9, 0), "", True),
        ("a100", "a100", 40, (8, 0), "", False),
        ("a100_80", "a100", 80, (8, 0), "", True),
        ("v100_32", "v100", 32, (7, 0), "", True),
        ("V100", "v100", 16, (7, 0), "", False),
        ("nvidia_geforce_rtx_2080_ti", "rtx2080ti", 11, (7, 5), "", True),
        ("2080ti", "rtx2080ti", 11, (7, 5), "", True),
        ("RTX_A6000", "a6000", 48, (8, 6), "", True),
        ("quadro_rtx_6000", "rtx6000", 24, (7, 5), "", True),
        ("rtx_6000_ada", "rtx6000ada", 48, (8, 9), "", True),
        ("l40s", "l40s", 48, (8, 9), "", True),
        ("l4", "l4", 24, (8, 9), "", True),
        ("t4", "t4", 16, (7, 5), "", True),
        ("k80", "k80", 12, (3, 7), "", True),
        ("b200", "b200", 180, (10, 0), "", True),
        ("mi300x", "mi300x", 192, None, "", True),
        ("1g.10gb", "", 10, None, "1g.10gb", True),
        ("nvidia-a100-mig-1g.5gb", "a100", 5, (8, 0), "1g.5gb", True),
        ("a100_3g.40gb", "a100", 40, (8, 0), "3g.40gb", True),
        ("gpu80g", "", 80, None, "", True),
        ("gpumem_32gb", "", 32, None, "", True),
    ],
)
def test_names_tell_what_a_gpu_is(text, name, memory, capability, part, sure):
    model = parse_gpu_name(text)
    assert model is not None
    assert (model.name, model.memory, model.capability, model.mig_slice, model.memory_is_exact) == (
        name,
        memory * GB,
        capability,
        part,
        sure,
    )


def test_names_that_tell_nothing():
    # "80gb" may be the memory of the machine
    for text in ("", "gpu", "tesla", "skylake", "80gb", "192g", "ib", "a100x9", "v100_99", "mem_80gb", "a100-mig"):
        assert parse_gpu_name(text) is None


def test_capabilities_compare_as_versions():
    assert parse_capability("8.6") < parse_capability("8.10") < parse_capability("9") == (9, 0)
    with pytest.raises(ValueError, match=r"like 8\.0"):
        parse_capability("hopper")


def test_sizes_are_said_as_they_are_asked_for():
    assert [format_gpu_memory(size) for size in (80 * GB, 24 * 2**30, 10_500_000_000)] == ["80GB", "24GiB", "10.5GB"]


def test_what_a_site_says_it_has():
    a100, mig, v100 = configured(SITE)
    assert a100 == GpuKind("a100", 80 * GB, (8, 0), "--gres=gpu:a100:{count}")
    assert (mig.memory, v100.capability) == (10 * GB, (7, 0))
    assert v100.options(2) == ("--constraint=v100", "--gres=gpu:2")
    assert configured({"gpus": [{"type": "l4"}]}) == (GpuKind("l4", 24 * GB, (8, 9), "--gres=gpu:l4:{count}"),)
    assert configured({}) == configured({"gpus": None}) == ()


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ("a100", "not a list"),
        ([{"memory": "80GB"}], "not a mapping with a type"),
        (["a100"], "not a mapping with a type"),
        ([{"type": "a100", "vram": 1}], "has vram"),
        ([{"type": "a100", "directive": "--gres=gpu:2"}], "without {count}"),
        ([{"type": "a100", "directive": "--x='{count}"}], "is wrong: "),
        ([{"type": "a100", "memory": "much"}], "a size like 24GB"),
        ([{"type": "a100", "capability": "new"}], "like 8.0"),
    ],
)
def test_settings_that_cannot_be_used_are_named(gpus: Any, words: str):
    with pytest.raises(UsageError) as caught:
        configured({"gpus": gpus})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_nodes_have_is_discovered():
    assert discover(MIXED) == (
        GpuKind("a100", 80 * GB, (8, 0), "--constraint=gpu80g --gres=gpu:a100:{count}"),
        GpuKind("a100", 40 * GB, (8, 0), "--constraint=gpu40g --gres=gpu:a100:{count}"),
        GpuKind("v100", 32 * GB, (7, 0), "--constraint=gpu32g --gres=gpu:v100:{count}"),
    )
    assert discover([Node("n", gpus={"": 2}, features=("skylake", "v100_32"))]) == (
        GpuKind("v100", 32 * GB, (7, 0), "--constraint=v100_32 --gres=gpu:{count}"),
    )
    assert discover([Node("n", gpus={"": 2}, features=("v100", "gpu32g"))]) == (
        GpuKind("v100", 32 * GB, (7, 0), "--constraint=v100&gpu32g --gres=gpu:{count}"),
    )
    assert discover([Node("n", gpus={"1g.10gb": 7, "a100": 1}, features=("a100",))]) == (
        GpuKind("1g.10gb", 10 * GB, (8, 0), "--gres=gpu:1g.10gb:{count}"),
        GpuKind("a100", 40 * GB, (8, 0), "--gres=gpu:a100:{count}"),
    )
    assert discover([Node("n", gpus={"": 2}), Node("m")]) == (GpuKind("", None, None, "--gres=gpu:{count}"),)


def test_the_smallest_that_will_do_is_asked_for():
    kinds = configured(SITE)
    small = select(GpuRequest(1, memory=8 * GB), kinds, SITE_NODES)
    assert (names(small), small.directives, small.nodes) == (["a100-mig"], ("--gres=gpu:1g.10gb:1",), ("sliced",))
    assert small.summary_lines == (
        "GPUs: a100-mig with 10GB on 1 node",
        "v100, a100 would do, too, and are left to runs that need more; --gpu-type chooses it",
    )
    middle = select(GpuRequest(2, memory=16 * GB), kinds, SITE_NODES)
    assert (middle.directives, middle.nodes) == (("--constraint=v100", "--gres=gpu:2"), ("old1", "old2"))
    assert names(select(GpuRequest(4, memory=16 * GB), kinds, SITE_NODES)) == ["a100"]  # no other has four on a node
    assert names(select(GpuRequest(1, "a100"), kinds, SITE_NODES)) == ["a100"]
    assert names(select(GpuRequest(1, "A100-80GB"), kinds, SITE_NODES)) == ["a100"]
    assert names(select(GpuRequest(1, capability=(8, 0)), kinds, SITE_NODES)) == ["a100-mig"]


def test_without_nodes_any_count_will_do():
    choice = select(GpuRequest(16, "v100"), configured(SITE))
    assert (choice.directives, choice.nodes) == (("--constraint=v100", "--gres=gpu:16"), ())
    assert choice.summary_lines == ("GPUs: v100 with 32GB",)


def test_kinds_that_one_constraint_can_name_are_asked_for_together():
    either = select(GpuRequest(2, "a100"), discover(MIXED), MIXED)
    assert either.directives == ("--constraint=gpu40g|gpu80g", "--gres=gpu:a100:2")
    assert either.nodes == ("node2", "node1")
    assert either.summary_lines == ("GPUs: a100 with 40GB or a100 with 80GB on 2 nodes",)
    untyped = (
        Node("n1", gpus={"": 2}, features=("a40",)),
        Node("n2", gpus={"": 4}, features=("l40s",)),
        Node("n3", gpus={"": 4}, features=("t4",)),
    )
    both = select(GpuRequest(1, memory=40 * GB), discover(untyped), untyped)
    assert both.directives == ("--constraint=a40|l40s", "--gres=gpu:1")
    assert select(GpuRequest(4, memory=40 * GB), discover(untyped), untyped).directives == (
        "--constraint=l40s",
        "--gres=gpu:4",
    )


def test_a_size_in_binary_units_means_what_is_sold_under_that_number():
    assert names(select(GpuRequest(1, memory=32 * 2**30), discover(MIXED), MIXED)) == ["v100"]
    assert names(select(GpuRequest(1, memory=33 * GB), discover(MIXED), MIXED)) == ["a100", "a100"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            GpuRequest(1, memory=96 * GB),
            "--gpu-memory 96GB: the largest here is a100 with 80GB; try --gpu-memory 80GB (1 node has it)",
        ),
        (
            GpuRequest(1, capability=(9, 0)),
            "--gpu-capability 9.0: the newest here is a100 with 80GB and capability 8.0; "
            "try --gpu-capability 8.0 (2 nodes have it)",
        ),
        (
            GpuRequest(1, "h100"),
            "--gpu-type h100: there are a100 with 80GB, a100 with 40GB, v100 with 32GB; "
            "try --gpu-type a100 (2 nodes have it)",
        ),
        (
            GpuRequest(8, "v100"),
            "--gpus 8 --gpu-type v100: nodes have 4 × v100 with 32GB at most; try --gpus 4 (1 node has it)",
        ),
        (
            GpuRequest(4, memory=60 * GB),
            "--gpus 4 --gpu-memory 60GB: nodes have 2 × a100 with 80GB at most; try --gpus 2 (1 node has it)",
        ),
        (
            GpuRequest(1, "v100", 80 * GB),
            "--gpu-type v100 --gpu-memory 80GB: the largest v100 here has 32GB; try --gpu-memory 32GB (1 node has it)",
        ),
        (
            GpuRequest(1, None, 140 * GB, (9, 0)),
            "--gpu-memory 140GB --gpu-capability 9.0: the nearest here is a100 with 80GB and capability 8.0; "
            "try --gpu-memory 80GB --gpu-capability 8.0 (1 node has it)",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_nearest_that_can(asked: GpuRequest, words: str):
    assert refusal(asked) == words


def test_what_is_not_known_is_said_so():
    plain = (Node("n", gpus={"": 2}),)
    assert refusal(GpuRequest(1, memory=GB), plain) == (
        "--gpu-memory 1GB: the memory of a GPU of unknown kind is unknown; give it under gpus: in the target's settings"
    )
    assert refusal(GpuRequest(1, memory=GB), ()) == (
        "--gpu-memory 1GB: no GPUs are known here; list them under gpus: in the target's settings"
    )
    assert refusal(GpuRequest(1, "a100"), plain, configured(SITE)).endswith("no node here has a100 with 80GB")


def test_what_a_run_asks_for_is_chosen_from_settings_or_nodes():
    assert selection_for(Resources(gpus=2), {}, SITE_NODES) is None
    assert selection_for(Resources(gpu_type="a100"), SITE, SITE_NODES) is None
    choice = selection_for(
        Resources(gpus=2), SITE, SITE_NODES
    )  # the site's directives hold for any GPU, too: the smallest first
    assert choice is not None
    assert choice.directives == ("--gres=gpu:1g.10gb:2",)
    choice = selection_for(Resources(gpus=1, gpu_type="v100"), SITE, SITE_NODES)
    assert choice is not None
    assert choice.directives == ("--constraint=v100", "--gres=gpu:1")
    choice = selection_for(Resources(gpus=1, gpu_capability="8.0", gpu_memory=50 * GB), {}, MIXED)
    assert choice is not None
    assert choice.directives == ("--constraint=gpu80g", "--gres=gpu:a100:1")
    with pytest.raises(UsageError, match="--gpu-capability new: --gpu-capability takes"):
        selection_for(Resources(gpus=1, gpu_capability="new"), SITE, SITE_NODES)


GPU_NAMES = st.sampled_from(["", "a100", "v100", "h100", "1g.10gb", "a100_3g.40gb", "tesla", "t4"])
FEATURES = st.sampled_from(["a100", "gpu80g", "gpu16g", "v100_32", "l40s", "ib", "skylake"])


@given(
    st.lists(
        st.builds(
            lambda name, gpus, features: Node(name, gpus=gpus, features=tuple(features)),
            st.from_regex(r"\An[0-9]{1,3}\Z"),
            st.dictionaries(GPU_NAMES, st.integers(0, 8), max_size=3),
            st.lists(FEATURES, unique=True, max_size=3),
        ),
        max_size=5,
        unique_by=lambda node: node.name,
    ),
    st.builds(
        GpuRequest,
        st.integers(1, 9),
        st.sampled_from([None, "a100", "v100", "h100", "1g.10gb", "nonsense"]),
        st.sampled_from([None, 8 * GB, 24 * GB, 80 * GB, 200 * GB]),
        st.sampled_from([None, (7, 0), (8, 0), (9, 0)]),
    ),
)
def test_a_choice_can_be_had_and_a_refusal_is_one_line(nodes: list[Node], asked: GpuRequest):
    if asked.is_any:
        return
    refused = ""
    try:
        choice = select(asked, discover(nodes), nodes)
    except UsageError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        assert asked.flags in refused
        return
    assert choice.kinds
    assert choice.directives[-1].endswith(f":{asked.count}")
    assert not nodes or choice.nodes
    for name in choice.nodes:
        node = next(each for each in nodes if each.name == name)
        assert sum(node.gpus.values()) >= asked.count
