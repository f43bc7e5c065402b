"""What becomes of pools where SLURM does not do what it should. It is played here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.api import pools
from mlnb.errors import MlnbError
from mlnb.targets.pool.folder import known
from tests.targets.played import Played, played
from tests.waiting import until

LOST = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Played]:
    with played(tmp_path / "slurm") as commands:
        yield commands


def test_a_pools_job_that_appears_when_its_holder_has_given_up_is_taken_out_of_the_queue(slurm: Played):
    slurm.say("sbatch", LOST)
    slurm.say("scancel", f"echo >{slurm.folder}/listed")
    with pytest.raises(MlnbError, match="Socket timed out on send/recv operation; whether it took the job"):
        pools.start(["--on", "slurm", "--name", "warm"])
    (pool,) = known()
    slurm.queue(f"12345 PENDING {pool.id}")
    until(lambda: slurm.calls("scancel") == [": 12345"])
