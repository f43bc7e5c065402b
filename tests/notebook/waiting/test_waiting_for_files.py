"""Files are results as well: who uses what a pending run may write waits for it, who uses other files does not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mlnb.api import runs
from mlnb.notebook.waiting.paths import named_in
from mlnb.rundir import FINAL
from tests.notebook.conftest import Gate
from tests.notebook.kernels import Kernel

OLD = """
import os, shutil, json, csv, glob, subprocess
from safetensors.torch import load_file, save_file
shutil.rmtree('out', ignore_errors=True)
for _file in ('best.pt', 'log.csv', 'late.txt', 'w.safetensors'):
    Path(_file).unlink(missing_ok=True)
torch.save({'w': torch.zeros(1)}, 'best.pt')
save_file({'w': torch.zeros(1)}, 'w.safetensors')
Path('data.csv').write_text('1,2')
OUT, cfg = Path('out'), {'log': 'log.csv'}
def read_best(): return float(torch.load('best.pt')['w'])
def read_tensors(): return load_file('w.safetensors')['w'].item()
"""

WRITES = """
from safetensors.torch import save_file
OUT.mkdir(exist_ok=True)
torch.save({'w': torch.ones(1)}, 'best.pt')
save_file({'w': torch.ones(1)}, 'w.safetensors')
(OUT / 'late.txt').write_text('1.0')
with open(cfg['log'], 'w') as f:
    for n in range(1): f.write('1.0,0')
"""

READERS = {
    "an old checkpoint": "float(torch.load('best.pt')['w'])",
    "in a function": "read_best()",
    "a library that opens files itself": "load_file('w.safetensors')['w'].item()",
    "such a library in a function": "read_tensors()",
    "a file that there is not yet": "float(open('log.csv').read().split(',')[0])",
    "a path that is put together": "float((Path('out') / ('la' + 'te.txt')).read_text())",
    "a list of files": "float(len([f for f in os.listdir('.') if f == 'log.csv']))",
    "a glob": "float(len(glob.glob('out/*.txt')))",
    "whether there is one": "float(os.path.exists('log.csv'))",
    "the output of a shell line": "float(get_ipython().getoutput('cat log.csv')[0].split(',')[0])",
    "a subprocess": "float(subprocess.run('cat log.csv', shell=True, capture_output=True).stdout[:3])",
    "code that is evaluated": "eval(\"float(torch.load('best.pt')['w'])\")",
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_who_reads_a_file_that_a_run_writes_waits(nb: Kernel, gate: Gate, reader: str) -> None:
    nb.ok(OLD)
    nb.ok(f"%%train --name writes\n{gate.wait}\n{WRITES}")
    reading = nb.send(f"print({reader})")
    nb.until_waiting(reading)
    gate.open()
    assert nb.finish(reading).out.split()[-1] == "1.0", reading.text


def test_a_file_that_tells_a_run_to_stop_is_made_and_looked_for_by_later_cells(nb: Kernel) -> None:
    nb.ok("import time\nstop_file = Path('stop.flag').absolute()\nstop_file.unlink(missing_ok=True)")
    nb.ok("%%train --name stoppable\nwhile not stop_file.exists(): time.sleep(0.01)\nanswer = 42\n")
    assert nb.ok("stop_file.exists(), Path('stop.flag').exists()").result == "(False, False)"
    nb.ok("stop_file.touch()")
    assert nb.ok("answer").result == "42"


@pytest.mark.parametrize("reader", ["!ls", "!cat log.csv", "%%bash\ncat log.csv", "os.system('ls') and None"])
def test_a_shell_in_the_folder_waits(nb: Kernel, gate: Gate, reader: str) -> None:
    nb.ok(OLD)
    nb.ok(f"%%train --name writes\n{gate.wait}\n{WRITES}")
    reading = nb.send(reader)
    nb.until_waiting(reading)
    gate.open()
    assert nb.finish(reading).status == "ok", reading.text


def test_who_writes_what_a_run_writes_waits_so_that_the_later_counts(nb: Kernel, gate: Gate) -> None:
    nb.ok(OLD)
    nb.ok(f"%%train --name writes\n{gate.wait}\n{WRITES}")
    writing = nb.send("_ = Path('log.csv').write_text('mine')")
    nb.until_waiting(writing)
    gate.open()
    nb.finish(writing)
    assert nb.ok("Path('log.csv').read_text()").result == "'mine'"


def test_a_run_that_reads_what_a_run_writes_waits(nb: Kernel, gate: Gate) -> None:
    nb.ok(OLD)
    nb.ok(f"%%train --name writes\n{gate.wait}\n{WRITES}")
    second = nb.send("%%train --name reads\nread = float(torch.load('best.pt')['w'])\n")
    nb.until_waiting(second)
    gate.open()
    nb.finish(second)
    assert nb.ok("read").result == "1.0"


OTHERS = (
    "open('data.csv').read()\nPath('mine.txt').write_text('x')\nPath('mine.txt').read_text()",
    "import json as again, email.mime.audio\nhelp",
    "!echo hello; nproc",
    "mlnb.runs['writes'].state, len(list(mlnb.runs)), mlnb.runs['writes'].logs()",
    "%runs",
    "subprocess.run(['hostname'], capture_output=True).returncode",
    "os.listdir('/tmp')[:1], open('/etc/hostname').read()[:1]",
    "1 / 0",
)


def test_who_uses_other_files_does_not_wait(nb: Kernel, gate: Gate) -> None:
    nb.ok(OLD)
    nb.ok(f"%%train --name writes\n{gate.wait}\nopen('data.csv').read()\n{WRITES}")
    for cell in OTHERS:
        sent = nb.send(cell, stop_on_error=False)
        nb.until(lambda sent=sent: sent.idle or any("Waiting" in d.get("text/plain", "") for d in sent.displays))
        assert sent.idle, cell
        nb.finish(sent)
        assert runs["writes"].state not in FINAL, cell
        assert nb.look("len(mlnb.notebook.waiting.pending.current._pending)") == "1", cell


def test_beside_a_run_that_writes_nothing_a_folder_can_be_listed(nb: Kernel, gate: Gate) -> None:
    nb.ok(OLD)
    nb.ok(f"%%train --name plain\n{gate.wait}\nopen('data.csv').read()\nanswer = 42\n")
    nb.ok("!ls\nos.listdir('.'), open('data.csv').read(), torch.load('best.pt')")
    assert runs["plain"].state not in FINAL


def test_a_failed_run_stops_who_reads_its_files_once(nb: Kernel, gate: Gate) -> None:
    nb.ok(OLD)
    nb.ok(f"%%train --name failing\n1 / 0\n{WRITES}")
    assert "Run failing failed" in nb.run("read_best()").message
    assert nb.ok("read_best()").result == "0.0"


PROGRAMS = {
    "torch.save(net.state_dict(), 'best.pt')": ({"best.pt"}, set(), False),
    "with open('log.csv', 'w') as f: f.write('x')": ({"log.csv"}, set(), False),
    "open('log.csv').read()": (set(), {"log.csv"}, False),
    "open(mode='a', file='log.csv')": ({"log.csv"}, set(), False),
    "torch.save(m, OUT / 'last.pt')": ({"out/last.pt"}, set(), False),
    "torch.save(m, f'ckpt_{lr}.pt')": ({"ckpt_0.1.pt"}, set(), False),
    "for e in range(3): torch.save(m, f'ckpt_{e:03d}.pt')": ({"ckpt_*.pt"}, set(), False),
    "torch.save(m, os.path.join(args.out, 'm.pt'))": ({"runs/x/m.pt", "runs/x", "m.pt"}, set(), False),
    "torch.save(m, 'ep%d.pt' % e)": ({"ep*.pt"}, set(), False),
    "cfg2 = {'c': 'c.pt'}\ntorch.save(m, cfg2['c'])": ({"c.pt"}, set(), False),
    "p = 'folder'\nmodel.save_pretrained(p)": ({"folder"}, set(), False),
    "def save(path): torch.save(m, path)\nfit(m, 'a.pt')": ({"a.pt"}, set(), False),
    "json.dump(d, open('r.json', 'w'))": ({"r.json"}, set(), False),
    "Arguments(output_dir='there')": ({"there"}, set(), False),
    "frame = pd.read_csv('data.csv')": (set(), {"data.csv"}, False),
    "trainer.save_model()": (set(), set(), True),
    "torch.save(m, path_for(3))": (set(), set(), True),
    "print('no path'); s.replace('a', 'b'); loss.backward()": (set(), set(), False),
}


@pytest.mark.parametrize(("program", "expected"), PROGRAMS.items(), ids=PROGRAMS)
def test_paths_that_a_program_names(program: str, expected: tuple[set[str], set[str], bool]) -> None:
    class Arguments:
        def __init__(self) -> None:
            self.out = "runs/x"

    found = named_in(ast.parse(program), {"OUT": Path("out"), "lr": 0.1, "args": Arguments()})
    assert (found.written, found.read, found.unknown) == expected
