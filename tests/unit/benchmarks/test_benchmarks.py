"""The benchmarks' machinery, on stand-ins that take no time: processes in turns, and tables of their results."""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jax.numpy as jnp
import pytest

from benchmarks import compare, compiling, gpu, machine, plots, results, tables, targets
from benchmarks.coordinator import TaskRun, Worker, run_in_turns
from benchmarks.systems import SYSTEMS, Task, environment, tasks_of, with_avx512
from tests.support.pages import check_command
from tests.support.waiting import wait_until

STAND_IN = """
import sys, time
from benchmarks.backend import PreparedTask
from benchmarks.worker import reply_stream, serve

class StandInBackend:
    about = {"platform": "cpu", "device": sys.argv[1]}

    def __init__(self):
        if sys.argv[1] == "absent":
            raise ImportError("No module named 'nothing'")

    def device_peak(self):
        return None

    def build(self, task):
        print("libraries print what they like")
        if task.kind == "encode":
            raise RuntimeError("cannot encode")
        return PreparedTask(lambda: self.work(task), {"gflop": 2.0 * task.count})

    def work(self, task):
        if task.kind == "gemm":
            sys.exit(3)
        with open(sys.argv[2], "a") as log:
            log.write(f"{sys.argv[1]} {task}\\n")
        time.sleep(0.002)
        return {"decode": 0.001}

with reply_stream() as out:
    serve(StandInBackend, sys.stdin, out)
"""


def test_systems_take_turns_and_failures_are_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.touch()
    workers = [Worker(name, ["-c", STAND_IN, name, str(log)]) for name in ("quick", "slow", "absent")]
    requests = ((0, "track:1"), (1, "track:1"), (0, "track:4"), (1, "encode:1"), (2, "track:1"), (1, "gemm:1"))
    runs = [TaskRun(workers[index], task) for index, task in requests]
    try:
        run_in_turns(runs, rounds=3, pause=0)
    finally:
        for worker in workers:
            worker.close()
    assert [run.failure for run in runs[:1] + runs[2:]] == [
        None,
        None,
        "RuntimeError: cannot encode",
        "ImportError: No module named 'nothing'",
        "its process ended with code 3",
    ]
    # This process ended while it prepared its last task, so its other tasks fail too.
    assert runs[1].failure == "its process ended with code 3"
    lines = log.read_text().splitlines()
    warm = ["quick track:1"] * 3 + ["slow track:1"] * 3 + ["quick track:4"] * 3
    assert lines == [*warm, *["quick track:1", "quick track:4"] * 3]
    assert runs[2].facts["gflop"] == 8
    assert [measured["details"] for measured in runs[0].runs] == [{"decode": 0.001}] * 3
    assert all(0.002 <= measured["seconds"] < 1 and measured["idle_s"] < 0.5 for measured in runs[0].runs)
    if sys.platform == "linux":
        assert runs[0].facts["peak_bytes"] > 1e6
    printed = capsys.readouterr().out
    assert re.search(r"^quick, track:1: ready after \d+ s, \d+\.\d ms when warm$", printed, re.MULTILINE)
    assert "slow, encode:1: RuntimeError: cannot encode\n" in printed
    late = TaskRun(workers[0], "track:1")
    run_in_turns([late], rounds=1, budget=-1)
    assert late.failure == "not prepared within -1 s" and not late.runs
    about = compare.summarize(SYSTEMS["ours"], Task("track", 4), runs[2])
    assert about["median_ms"] == pytest.approx(1e3 * sorted(measured["seconds"] for measured in runs[2].runs)[1])
    assert "median_ms" not in compare.summarize(SYSTEMS["onnx"], Task("encode"), runs[3])


def test_measurements_are_kept_when_the_run_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But nothing is written if nothing was timed, to keep the results of an earlier run."""
    (tmp_path / "log").touch()
    arguments = argparse.Namespace(objects=[1], against=[1], batches=[], rounds=2, budget=60)

    def start(system: Any, *_: Any) -> Worker:
        return Worker(system.name, ["-c", STAND_IN, system.name, str(tmp_path / "log")])

    def stopped(rows: list[TaskRun], rounds: int, budget: float) -> None:
        run_in_turns(rows[:1], rounds, 0, budget)
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "start_worker", start)
    monkeypatch.setattr(compare, "run_in_turns", stopped)
    timed, *others = compare.compare([SYSTEMS["original"]], arguments, tmp_path)[0]
    assert timed["task"] == "track" and timed["median_ms"] > 1
    assert others and all(row["note"] == "not timed: the run was stopped" for row in others)
    monkeypatch.setattr(compare, "make_weights", lambda *_: None)
    monkeypatch.setattr(compare, "compare", lambda *_: (others, {}))
    monkeypatch.setattr(compare, "report", lambda *_: pytest.fail("this was written"))
    monkeypatch.setattr(sys, "argv", ["compare", "--systems", "ours"])
    with pytest.raises(SystemExit, match="nothing was timed"):
        compare.main()


def test_tasks_and_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Task.parse(str(Task("track", 4))) == Task("track", 4)
    tracked = [task.count for task in tasks_of(SYSTEMS["original"], [1, 2, 4], [1, 4], []) if task.kind == "track"]
    assert tracked == [1, 4]
    assert Task("track", 4) not in tasks_of(SYSTEMS["compiled"], [1, 4], [1, 4], [2])
    ours = {Task("track", 8), Task("gemm"), Task("video"), Task("images", 2), Task("videos", 2), Task("clip", 2)}
    assert ours < set(tasks_of(SYSTEMS["ours-tuned"], [1, 8], [1], [2]))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    plain = environment(SYSTEMS["original"], "cpu", 2, tmp_path)
    assert plain["OMP_NUM_THREADS"] == "2" and "LD_PRELOAD" not in plain and "JAX_COMPILATION_CACHE_DIR" not in plain
    doubled = with_avx512([SYSTEMS["ours"], SYSTEMS["original"]])
    assert [system.name for system in doubled] == ["ours", "original", "original+avx512"]
    if shutil.which("cc"):
        library = Path(environment(doubled[2], "cpu", 2, tmp_path)["LD_PRELOAD"])
        assert b"mkl_serv_intel_cpu_true" in library.read_bytes()
    assert "mmap_max=0" in environment(SYSTEMS["original-tuned"], "cpu", 2, tmp_path)["GLIBC_TUNABLES"]


def row(name: str, task: str, count: int, milliseconds: float, **more: Any) -> dict[str, Any]:
    label = next((system.label for system in SYSTEMS.values() if system.name == name), f"{name} <&>")
    times = {"median_ms": milliseconds, "p99_ms": 2 * milliseconds, "first_s": 3.0, "peak_bytes": 5e8, "details": {}}
    return {"system": name, "label": label, "task": task, "count": count, **times, **more}


ROWS = [
    row("ours", "track", 1, 125.0, gflop=50.0),
    row("ours-tuned", "track", 1, 100.0, gflop=50.0),
    row("ours-tuned", "track", 4, 300.0, gflop=150.0),
    row("ours-tuned", "gemm", 1, 1.0, details={"gflops": 1000.0}),
    row("ours-tuned", "encode", 1, 4.0),
    row("ours-tuned", "videos", 4, 250.0),
    row("ours-tuned", "clip", 4, 380.0),
    row("ours-tuned", "video", 1, 120.0, details={"decode": 0.004, "track": 0.1}),
    row("ours-bf16", "track", 1, 80.0, gflop=50.0),
    row("original", "track", 1, 175.0),
    row("original-tuned", "track", 1, 150.0),
    row("original-tuned+avx512", "track", 1, 150.0),
    row("original-tuned", "encode", 1, 8.0),
    {"system": "onnx", "label": "ONNX Runtime", "task": "encode", "count": 1, "note": "No module named 'onnx'"},
]


def statuses(amd: bool) -> dict[str, tuple[float, str]]:
    return {found.name: (round(found.value, 3), found.status) for found in targets.measurements(ROWS, "cpu", amd)}


def test_ratios_and_targets() -> None:
    found = statuses(amd=True)
    assert found["a frame, 1 object: times as fast as original, eager, tuned"] == (1.5, "MISSED")
    assert found["a frame, 1 object: times as fast as original-tuned+avx512 <&>"] == (1.5, "reached")
    assert statuses(amd=False)["a frame, 1 object: times as fast as original, eager, tuned"] == (1.5, "reached")
    assert found["a frame, 1 object: times as fast as original, eager"] == (1.4, "")  # neither allocator is tuned
    assert found["an image encoded: times as fast as original, eager, tuned"] == (2.0, "")
    assert found["time for 4 objects over time for 1"] == (3.0, "MISSED")
    assert found["a frame each of 4 videos at once: time over that for 1"] == (2.5, "")
    assert found["4 frames tracked in one call, the first prompted: time over that of 4 steps"] == (0.95, "")
    assert found["a frame, 1 object: bf16 times as fast as float32"] == (1.25, "reached")
    assert found["edgetam_jax, tuned: share of 1000 GFLOP/s, the peak of JAX here"] == (0.5, "MISSED")
    assert targets.Measurement("", 2.3, 2.7, 2.3, lower_is_better=True).status == "aim"


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Results written to a file and read again."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    for _ in range(2):  # the second replaces the first
        results.write("speed", 64, device=results.Device("cpu", "cpu"), rows=ROWS, threads=2, rounds=7)
    (path,) = (tmp_path / "results").iterdir()
    assert path.name == "speed_cpu_64.json" and path.name in capsys.readouterr().out
    return json.loads(path.read_text())


def test_results_name_the_machine(measured: dict[str, Any]) -> None:
    text = machine.CPUINFO.read_text() if machine.CPUINFO.exists() else ""
    if names := re.findall(r"^model name\s*: (.*)$", text, re.MULTILINE):
        assert measured["processor"].startswith(names[0])
        assert all(f" {name} " in text.replace("\n", " ") for name in measured["instructions"])
    assert measured["processor"] and measured["load_before"] >= 0
    assert {"jax", "torch", "transformers"} <= set(measured["versions"])
    assert measured["rows"] == ROWS


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("cpu family\t: 26\nmodel\t\t: 2\nmodel name\t: Some EPYC\n", "Some EPYC (family 26, model 2)"),
        ("model name\t: ARMv7 Processor rev 4 (v7l)\n", "ARMv7 Processor rev 4 (v7l)"),
    ],
)
def test_processors_are_told_apart(lines: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    machine.CPUINFO.write_text(f"processor\t: 0\n{lines}flags\t\t: avx2 sse avx512_bf16\n\nprocessor\t: 1\n")
    assert machine.processor() == name
    assert machine.instructions() == ["avx2", "avx512_bf16"]


def test_the_picture_holds_every_bar(measured: dict[str, Any]) -> None:
    picture = ElementTree.fromstring(plots.draw(measured))
    drawn = [element for element in picture.iter() if element.get("rx") == "3"]
    assert len(drawn) == 6  # the timed rows of two charts, without those that are also timed with a tuned allocator
    widths = sorted(float(element.attrib["width"]) for element in drawn)
    assert widths[-1] == pytest.approx(plots.WIDTH - plots.LEFT - plots.RIGHT)
    texts = " ".join(element.text or "" for element in picture.iter())
    for word in (
        "original-tuned+avx512 <&>",
        "150 ms",
        "64x64 pixels",
        "7 turns",
        tables.processor_name(measured),
        measured["versions"]["torch"],
    ):
        assert word in texts


def test_tables_go_into_the_page(measured: dict[str, Any]) -> None:
    newest = {**measured, "processor": "AMD (family 26, model 2)"}
    elsewhere = {
        **measured,
        "processor": "Intel (family 6, model 207)",
        "instructions": ["avx512f"],
        "rows": [*ROWS[1:5], ROWS[10], row("onnx", "encode", 1, 8.0)],
    }
    compiled = [{"dtype": "float32", "objects": 8, "trace_s": 2.5, "compile_s": 9.0, "kept_s": 0.75}]
    asked = {"program": "step", "dtype": "bfloat16", "compile_s": 12.5, "kernels": 300, "kernels_on_weights": 0}
    asked |= {"gigabytes": 1.5, "gflop": 120.0, "temporary_mb": 48, "bound_ms": 0.9}
    late = {"program": "track", "dtype": "float32", "note": "not compiled after 600 s"}
    found = {
        **plots.run_tables(measured),
        "bars": tables.target_table([newest, elsewhere, {**newest, "rows": []}]),
        "sizes": tables.sizes_table([measured]),
        "compiling": tables.compiling_table(compiled),
        "aot": tables.aot_table([{"device": "TPU v9", "rows": [asked, late]}]),
    }
    pages = "".join(path.read_text() for path in plots.PAGES)
    assert all(pages.count(plots.MARKER.format(name)) == 1 for name in found)
    once = plots.insert_tables(pages, found)
    assert plots.insert_tables(once, found) == once
    lines = once.splitlines()
    assert "| milliseconds a frame | 100 | 300 |" in lines
    assert "| edgetam_jax, tuned | 4.0 | 100 (200) | 300 (600) | 0.5 GB | 3 s |" in lines
    assert "| edgetam_jax, tuned | 4.0 | 100.0 | 120 |" in lines
    assert any(line.startswith("| ONNX Runtime | failed: No module named 'onnx' |") for line in lines)
    assert "|  | at least | aim | AMD Zen 5 | Intel Emerald Rapids |" in lines
    assert "| a frame, 1 object: times as fast as original, eager, tuned | 2 | 2.9 | **1.50** |  |" in lines
    assert "| time for 4 objects over time for 1 | 2.7 | 2.3 | **3.00** | **3.00** |" in lines
    # What PyTorch does on Intel is what it does on AMD with AVX-512.
    assert "| a frame, 1 object: times as fast as original, eager, tuned, MKL on AVX-512 | 1.4 | 2 |  | 1.50 |" in lines
    assert "| an image encoded: times as fast as ONNX Runtime |  |  |  | 2.00 |" in lines
    assert "| 8 objects, float32 | 2.5 | 9.0 | 0.8 |" in lines
    assert "| TPU v9: step | bfloat16 | 12.5 | 300 | 0 | 1.5 | 120.0 | 48 | 0.9 |" in lines
    assert "| TPU v9: track | float32 | not compiled after 600 s |  |  |  |  |  |  |" in lines


def test_pages_show_the_committed_results() -> None:
    """The pages contain the picture and the tables that are made from the committed file."""
    file = results.RESULTS / "speed_cpu_1024.json"
    measured = json.loads(file.read_text())
    found = plots.all_tables(measured, file.parent)
    assert [one["image_size"] for one in tables.runs_by_size(measured, file.parent)] == [512, 768, 1024]
    assert plots.PICTURE.read_text() == plots.draw(measured)
    for page in plots.PAGES:
        assert plots.insert_tables(page.read_text(), found) == page.read_text()


def test_sizes_are_compared(measured: dict[str, Any], tmp_path: Path) -> None:
    """For one machine and the systems that were timed at all sizes, the smallest size first."""
    rows = [row for row in measured["rows"] if row["system"] == "ours-tuned"]
    small = measured | {"image_size": 32, "rows": rows, "instructions": ["avx512f"]}
    elsewhere = measured | {"image_size": 16, "processor": "another"}
    for name, document in (("elsewhere", elsewhere), ("here", measured), ("small", small)):
        (tmp_path / f"speed_{name}.json").write_text(json.dumps(document))
    lines = tables.sizes_table(tables.runs_by_size(measured, tmp_path)).splitlines()
    assert lines[0] == "| milliseconds, median | size | image | frame, 1 object | frame, 4 objects |"
    assert lines[2:] == ["| edgetam_jax, tuned | 32 | 4 | 100 | 300 |", "| edgetam_jax, tuned | 64 | 4 | 100 | 300 |"]


def test_compiling_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process with an empty compilation cache, and in another with the cache of the first."""
    calls: list[Any] = []
    monkeypatch.setattr(compiling, "track_step", lambda *args: calls.append(args) or args[2] * 2)
    seconds = compiling.time_compilation(512, "bfloat16", 2)
    assert min(seconds.values()) > 0
    assert calls[0][0].params["no_mem_embed"].dtype == jnp.bfloat16 and calls[0][2].shape == (512, 512, 3)
    folders: list[str] = []

    def check_output(line: list[str], env: dict[str, str], text: bool) -> str:
        folders.append(env["JAX_COMPILATION_CACHE_DIR"])
        assert line[-2:] == ["bfloat16", "2"]
        return json.dumps({"trace_s": 1.0, "compile_s": 8.0 if len(folders) % 2 else 0.5})

    monkeypatch.setattr(compiling.subprocess, "check_output", check_output)
    row = compiling.measure(64, "bfloat16", 2, rounds=3)
    assert row == {"dtype": "bfloat16", "objects": 2, "trace_s": 1.0, "compile_s": 8.0, "kept_s": 0.5}
    assert folders[::2] == folders[1::2] and len(set(folders)) == 3


def test_gpu_steps_are_valid_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each step is a command, with one compilation cache for all; they end when the time is over."""
    steps: list[list[str]] = []
    codes: list[int | None] = [0, 1, 0, 0, 0, None]

    def run(line: list[str], folder: str, seconds: float) -> int | None:
        steps.append(["python", *line[1:]])
        assert Path(folder).is_dir() and 0 < seconds <= 500
        return codes[len(steps) - 1]

    monkeypatch.setattr(gpu, "run", run)
    monkeypatch.setattr(sys, "argv", ["gpu", "--budget", "500"])
    with pytest.raises(SystemExit, match="failed: compare"):
        gpu.main()
    assert [step[2] for step in steps] == [f"benchmarks.{name}" for name, *_ in gpu.STEPS]
    assert steps[1][-1] == "380"
    for step in steps:
        check_command(step)
    with pytest.raises(SystemExit, match="compare was stopped"):
        gpu.main()


@pytest.mark.slow
def test_a_step_is_interrupted_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can still write its results; then it and the processes that it started are ended."""
    script = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.environ["JAX_COMPILATION_CACHE_DIR"], file=open("began", "w"))
try:
    time.sleep(60)
except KeyboardInterrupt:
    print(child.pid, file=open("interrupted", "w"))
"""
    monkeypatch.chdir(tmp_path)
    assert gpu.run([sys.executable, "-c", "raise SystemExit(3)"], "here", 60) == 3
    assert gpu.run([sys.executable, "-c", script], "here", 10) is None
    assert Path("began").read_text() == "here\n"
    child = int(Path("interrupted").read_text())
    wait_until(lambda: not alive(child), "the end of the process that the step started")


def alive(process: int) -> bool:
    """False also for a zombie: a process that has ended and that its parent has not waited for."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
