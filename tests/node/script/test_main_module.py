"""``__main__`` of a rank: a script is where its file is, a cell has no file."""

from __future__ import annotations

from tests.cli.conftest import Shell, fork_server, mlnb  # noqa: F401 - fixtures
from tests.conftest import Start


def test_a_cell_has_no_file_and_a_script_has_one(start: Start):
    assert start("print('__file__' in globals())", interactive=True).wait(60).logs() == "False\n"
    assert start("print('__file__' in globals())").wait(60).logs() == "True\n"


def test_processes_that_a_cell_spawns_do_not_run_it_again(start: Start):
    run = start(
        "import multiprocessing, os\nprint('cell', flush=True)\n"
        "process = multiprocessing.get_context('spawn').Process(target=os.getpid)\n"
        "process.start(); process.join(); print(process.exitcode)",
        interactive=True,
    )
    assert run.wait(90).logs() == "cell\n0\n"


PLACE = """
import inspect, pathlib, settings

def function():
    return 1

print(pathlib.Path(__file__).parent == pathlib.Path.cwd() / "project")
print(function.__code__.co_filename == __file__, "return 1" in inspect.getsource(function))
print((settings.HERE / "data.txt").read_text())
(settings.HERE / "saved.txt").write_text("saved")
"""
SETTINGS = "import pathlib\nHERE = pathlib.Path(__file__).parent\n"


def test_a_script_and_its_modules_are_where_their_files_are(mlnb: Shell):  # noqa: F811
    mlnb.write("project/main.py", PLACE)
    mlnb.write("project/settings.py", SETTINGS)
    mlnb.write("project/data.txt", "beside")
    ended = mlnb("run", "project/main.py")
    assert (ended.code, ended.out) == (0, "True\nTrue True\nbeside\n"), ended.err
    assert (mlnb.folder / "project" / "saved.txt").exists()


EDITED = """
import pathlib, settings
import multiprocessing

def value():
    print(settings.VALUE, flush=True)

if __name__ == "__main__":
    (pathlib.Path(__file__).parent / "started").touch()
    process = multiprocessing.get_context("spawn").Process(target=value)
    process.start(); process.join()
"""


def test_what_is_edited_after_submission_runs_as_it_was_submitted(mlnb: Shell):  # noqa: F811
    script = mlnb.write("main.py", EDITED)
    module = mlnb.write("settings.py", "VALUE = 'submitted'\n")
    # other runs hold all cores until both files are edited
    gate = mlnb.write("wait.py", "import pathlib, time\nwhile not pathlib.Path('gate').exists(): time.sleep(0.02)\n")
    import os

    mlnb("run", "--detach", "--cpus", str(os.cpu_count()), str(gate))
    assert mlnb("run", "--detach", "--name", "edited", "main.py").code == 0
    script.write_text("raise SystemExit('the edited script')\n")
    module.write_text("VALUE = 'edited'\n")
    (mlnb.folder / "gate").touch()
    ended = mlnb("logs", "-f", "edited")
    assert (ended.code, ended.out) == (0, "submitted\n"), ended.err


def test_a_module_runs_as_python_runs_it(mlnb: Shell):  # noqa: F811
    mlnb.write("package/__init__.py", "")
    mlnb.write("package/other.py", "VALUE = 3\n")
    mlnb.write(
        "package/train.py",
        "import sys\nfrom .other import VALUE\nprint(__name__, __package__, __spec__.name, VALUE, sys.argv[1:])\n",
    )
    mlnb.write("package/__main__.py", "from . import other\nprint('package', other.VALUE)\n")
    ended = mlnb("run", "-m", "package.train", "--lr", "3")
    assert (ended.code, ended.out) == (0, "__main__ package package.train 3 ['--lr', '3']\n"), ended.err
    assert mlnb("run", "-m", "package").out == "package 3\n"
    missing = mlnb("run", "-m", "package.nothing")
    assert missing.code == 2
    assert missing.err.startswith("mlnb: mlnb run -m package.nothing: no such module")


def test_a_script_in_another_encoding_runs(mlnb: Shell):  # noqa: F811
    (mlnb.folder / "latin.py").write_bytes("# coding: latin-1\nprint('größer')\n".encode("latin-1"))
    assert mlnb("run", "latin.py").out == "größer\n"
