"""onnxruntime as a process that is measured in turns: the counterpart of `lookout models bench --paced`.

usage: worker.py MODEL INPUTS EMBEDDINGS

One thread. Prints one JSON object when the model is loaded, one with the CPU times for each number of
pictures that a line of standard input gives, and a report when standard input ends.
"""

import ctypes
import json
import platform
import sys
import time

import numpy as np
import onnxruntime as ort

ARCH_GET_XCOMP_PERM, SYS_ARCH_PRCTL, XFEATURE_XTILEDATA = 0x1022, 158, 18


def status_mib(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) // 1024
    return None


def holds_amx():
    """Whether this process has asked for AMX's tiles and was given them."""
    if platform.machine() != "x86_64":
        return False
    mask = ctypes.c_uint64(0)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(SYS_ARCH_PRCTL, ARCH_GET_XCOMP_PERM, ctypes.byref(mask))
    return not failed and bool(mask.value >> XFEATURE_XTILEDATA & 1)


def say(**values):
    print(json.dumps(values), flush=True)


def main(model, inputs, embeddings):
    inputs, embeddings = np.load(inputs), np.load(embeddings)
    empty_mib = status_mib("VmHWM")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    start, wall = time.process_time(), time.perf_counter()
    tower = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    load_ms, load_wall_ms = (time.process_time() - start) * 1e3, (time.perf_counter() - wall) * 1e3
    name = tower.get_inputs()[0].name
    tower.run(None, {name: inputs[0]})
    say(cpu_ms=[])
    times = []
    for line in sys.stdin:
        cpu_ms = []
        for i in range(int(line)):
            feed = {name: inputs[i % len(inputs)]}
            start = time.process_time()
            tower.run(None, feed)
            cpu_ms.append((time.process_time() - start) * 1e3)
        times += cpu_ms
        say(cpu_ms=cpu_ms)
    peak_mib = status_mib("VmHWM")
    cosines = []
    for values, expected in zip(inputs, embeddings):
        got = tower.run(None, {name: values})[0][0]
        cosines.append(float(got @ expected / np.linalg.norm(got) / np.linalg.norm(expected)))
    say(
        run_by=f"onnxruntime {ort.__version__}",
        holds_amx=holds_amx(),
        load_ms=load_ms,
        load_wall_ms=load_wall_ms,
        cosine_min=min(cosines),
        empty_mib=empty_mib,
        peak_mib=peak_mib,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
