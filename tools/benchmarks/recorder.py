"""The flight recorder's share of an exit: what vmm/machine/run_loop_bench.cc gives for our part of an exit
and for remembering it, against a whole exit as the guest of `exits` measures it."""
import json
import statistics
import subprocess

from benchmarks import common, exits

BENCHMARK = common.ROOT + "/build/bin/machine_bench"
REMEMBERING = "Exits/flight_recorder"
WHOLE_EXIT = "pio-in-port92"


def main(runs):
    runs = runs or 5
    common.need(common.VMM, exits.GUEST)
    subprocess.check_call(["cmake", "--build", common.ROOT + "/build", "--target", "machine_bench"],
                          stdout=subprocess.DEVNULL)
    times, whole = {}, []
    for _ in range(runs):
        output = subprocess.run([BENCHMARK, "--benchmark_format=json"], check=True,
                                capture_output=True, text=True).stdout
        for row in json.loads(output)["benchmarks"]:
            times.setdefault(row["name"], []).append(row["cpu_time"])
        run = exits.run_once(exits.vmm_command("user", 1), exits.LIMIT)
        if run is not None:
            whole.append(run.least[WHOLE_EXIT])
    print("%d interleaved runs; CPU nanoseconds without KVM's part: median and least" % runs)
    for name, values in times.items():
        print("%-24s %9.1f %9.1f" % (name, statistics.median(values), min(values)))
    if whole:
        share = statistics.median(times[REMEMBERING]) / min(whole)
        print("a whole exit (%s) takes %.0f ns at least: remembering is %.2f %% of it"
              % (WHOLE_EXIT, min(whole), share * 100))
