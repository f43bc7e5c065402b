"""What a SLURM cluster is made of: read from lines of SLURM 22.05.8, and from any text at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlnb.targets.batch.systems.slurm.nodes import MIB, Node, gpus, parse_nodes, parse_partitions
from mlnb.targets.batch.systems.slurm.text import duration, expand, pairs, timestamp

# scontrol show node --details --oneliner; the reason was written by hand
NODES = (
    "NodeName=node1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=1 CPUEfctv=4 CPUTot=4 CPULoad=0.82 "
    "AvailableFeatures=a100,gpu80g ActiveFeatures=a100,gpu80g Gres=gpu:a100:2 GresDrain=N/A "
    "GresUsed=gpu:a100:1(IDX:0) NodeAddr=127.0.0.1 NodeHostName=vm Port=17001 Version=22.05.8 "
    "OS=Linux 6.1.0 #1 SMP PREEMPT_DYNAMIC @0  RealMemory=6000 AllocMem=500 FreeMem=20207 Sockets=4 Boards=1 "
    "State=MIXED ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=gpu,high,short  "
    "BootTime=1795216627 SlurmdStartTime=1795228936 LastBusyTime=1795228937 CfgTRES=cpu=4,mem=6000M,billing=4 "
    "AllocTRES=cpu=1,mem=500M CapWatts=n/a CurrentWatts=0 AveWatts=0 ExtSensorsTemp=n/s \n"
    "NodeName=node2 Arch=x86_64 CPUAlloc=0 CPUTot=64 AvailableFeatures=(null) ActiveFeatures=(null) Gres=(null) "
    "GresUsed=gpu:0 RealMemory=257000 AllocMem=0 State=IDLE+DRAIN Partitions=cpu "
    "Reason=fan broken, State=IDLE soon [root@1795216627]\n"
)
PARTITIONS = (
    "PartitionName=gpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED "
    "MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=node[1-3] PriorityJobFactor=1 "
    "PriorityTier=1 RootOnly=NO OverTimeLimit=NONE PreemptMode=REQUEUE State=UP TotalCPUs=12 TotalNodes=3 "
    "JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=12,mem=18000M,node=3,billing=12\n"
    "PartitionName=short Default=NO DefaultTime=00:01:00 MaxNodes=1 MaxTime=00:05:00 Nodes=node[1-2] State=DOWN "
    "DefMemPerCPU=500 MaxMemPerNode=UNLIMITED\n"
)


def test_nodes_are_read():
    found = parse_nodes(NODES)
    assert found["node1"] == Node(
        "node1",
        4,
        6000 * MIB,
        {"a100": 2},
        {"a100": 1},
        ("a100", "gpu80g"),
        "MIXED",
        ("gpu", "high", "short"),
        1,
        500 * MIB,
    )
    assert found["node1"].gpus_free == 1
    second = found["node2"]
    assert (second.cpus, second.memory) == (64, 257000 * MIB)
    assert (second.gpus, second.features, second.state, second.gpus_free) == ({}, (), "IDLE+DRAIN", 0)


def test_values_may_hold_spaces_and_the_first_of_equal_keys_counts():
    read = pairs(NODES.splitlines()[1])
    assert read["Reason"] == "fan broken,"
    assert read["State"] == "IDLE+DRAIN"
    assert pairs(NODES.splitlines()[0])["OS"] == "Linux 6.1.0 #1 SMP PREEMPT_DYNAMIC @0"


def test_a_node_is_usable_unless_it_is_down_drained_or_silent():
    usable = {"IDLE", "MIXED", "ALLOCATED", "IDLE+CLOUD+POWERED_DOWN", "IDLE+PLANNED", "MIXED+COMPLETING"}
    not_usable = {"DOWN", "DOWN*", "IDLE*", "IDLE+DRAIN", "MIXED+DRAIN", "DOWN+NOT_RESPONDING", "UNKNOWN", "FUTURE"}
    assert {state for state in usable | not_usable if Node("n", state=state).usable} == usable


def test_partitions_are_read():
    found = parse_partitions(PARTITIONS)
    gpu, short = found["gpu"], found["short"]
    assert (gpu.default, gpu.max_time, gpu.default_time, gpu.max_nodes, gpu.state) == (True, 86400, None, None, "UP")
    assert gpu.nodes == ("node1", "node2", "node3")
    assert (gpu.memory_per_cpu, gpu.memory_per_node) == (None, None)
    assert (short.default, short.max_time, short.default_time, short.max_nodes) == (False, 300, 60, 1)
    assert (short.state, short.memory_per_cpu) == ("DOWN", 500 * MIB)


def test_what_jobs_may_have_of_a_node():
    line = "NodeName=n CPUEfctv=124 CPUTot=128 RealMemory=499200 MemSpecLimit=16384 Gres=gpu:8"
    node = parse_nodes(line)["n"]
    assert (node.cpus, node.memory) == (124, (499200 - 16384) * MIB)
    part = parse_partitions("PartitionName=p MaxCPUsPerNode=32 MaxMemPerNode=UNLIMITED MaxMemPerCPU=3900")["p"]
    capped = part.capped(node)
    assert (capped.cpus, capped.memory, capped.gpu_count) == (32, 32 * 3900 * MIB, 8)
    assert parse_partitions("PartitionName=p MaxCPUsPerNode=UNLIMITED")["p"].capped(node) == node
    for unknown in ("NodeName=n CPUTot=4 RealMemory=1", "NodeName=n CPUTot=4"):  # not a resource of the site
        assert parse_nodes(unknown)["n"].memory is None


def test_gpus_of_generic_resources():
    assert gpus("gpu:a100:4(S:0-1),gpu:2,shard:8") == {"a100": 4, "": 2}
    assert gpus("gpu:1g.10gb:7(IDX:0-2,5),gpu:a100:1(IDX:N/A)") == {"1g.10gb": 7, "a100": 1}
    assert gpus("gpu:2080:8") == {"2080": 8}
    assert gpus("") == gpus("(null)") == gpus("gpu") == gpus("gpu:a100") == gpus("craynetwork:4") == {}


def test_host_lists():
    assert expand("node[1-3,07],x") == ("node1", "node2", "node3", "node07", "x")
    assert expand("r[0-1]n[08-10]-ib") == tuple(f"r{r}n{n}-ib" for r in "01" for n in ("08", "09", "10"))
    assert expand("") == ()
    assert expand("node[3-1],node[a],node[1") == ("node[3-1]", "node[a]", "node[1")
    assert expand("n[0-999999999]") == ("n[0-999999999]",)


@given(
    st.dictionaries(st.from_regex(r"\A[a-z]{1,6}\Z"), st.tuples(st.integers(0, 900), st.integers(0, 90)), max_size=4)
)
def test_host_lists_come_back(ranges: dict[str, tuple[int, int]]):
    text = ",".join(f"{name}[{first:03d}-{first + more:03d}]" for name, (first, more) in ranges.items())
    wanted = [f"{name}{each:03d}" for name, (first, more) in ranges.items() for each in range(first, first + more + 1)]
    assert list(expand(text)) == wanted


@given(st.lists(st.from_regex(r"\A[a-z0-9][a-z0-9.-]{0,12}\Z"), max_size=5))
def test_plain_names_stay(names: list[str]):
    assert list(expand(",".join(names))) == names


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_come_back(days: int, hours: int, minutes: int, seconds: int):
    assert duration(f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}") == (
        days * 86400 + hours * 3600 + minutes * 60 + seconds
    )
    assert duration(f"{hours}:{minutes:02d}:{seconds:02d}") == hours * 3600 + minutes * 60 + seconds
    assert duration(f"{minutes}:{seconds:02d}") == minutes * 60 + seconds


def test_what_is_no_time():
    assert [duration(text) for text in ("UNLIMITED", "NONE", "", "5", "Partition_Limit")] == [None] * 5
    assert [timestamp(text) for text in ("N/A", "Unknown", "None", "", "0", "2026-13-01T00:00:00")] == [None] * 6


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            ["NodeName=", "PartitionName=n", "Gres=gpu:", "x:2(", " ", "\n", "Nodes=[1-", "]", "MaxTime=1-"]
        )
    ).map("".join)
)
def test_any_text_is_read_without_a_fault(text: str):
    for name, node in parse_nodes(text).items():
        assert node.name == name
        assert node.gpus_free >= 0
        assert node.usable in (True, False)
    for name, partition in parse_partitions(text).items():
        assert partition.name == name
    expand(text)
    gpus(text)


@given(
    st.lists(
        st.builds(
            Node,
            st.from_regex(r"\A[a-z]{1,8}[0-9]{0,3}\Z"),
            st.integers(0, 512),
            st.none() | st.integers(2, 10**7).map(lambda count: count * MIB),
            st.dictionaries(st.sampled_from(["", "a100", "v100", "1g.10gb", "2080"]), st.integers(0, 16)),
            st.just({}),
            st.lists(st.sampled_from(["a100", "gpu80g", "ib"]), unique=True).map(tuple),
            st.sampled_from(["IDLE", "MIXED+DRAIN", "DOWN*"]),
            st.lists(st.sampled_from(["gpu", "high"]), min_size=1, unique=True).map(tuple),
        ),
        max_size=4,
        unique_by=lambda node: node.name,
    )
)
def test_nodes_come_back(nodes: list[Node]):
    lines = [
        f"NodeName={node.name} CPUTot={node.cpus} OS=Linux #1 SMP RealMemory={(node.memory or MIB) // MIB} "
        f"ActiveFeatures={','.join(node.features) or '(null)'} State={node.state} "
        f"Partitions={','.join(node.partitions)} "
        "Gres=" + ",".join(f"gpu:{kind}:{n}(S:0-1)" if kind else f"gpu:{n}" for kind, n in node.gpus.items())
        for node in nodes
    ]
    assert list(parse_nodes("\n".join(lines)).values()) == nodes
