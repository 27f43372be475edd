"""Start-up: what importing the code location costs beyond importing Dagster."""

import subprocess
import sys

from finance_os_tests.benchmarks.figures import Figure, side_by_side

_TIMED = "import time; t = time.perf_counter(); {imports}; print(time.perf_counter() - t)"


def import_cost(rounds: int) -> list[Figure]:
    """Seconds that `import finance_os.definitions` takes beyond `import dagster`."""

    def importing(imports: str) -> float:
        command = [sys.executable, "-W", "ignore", "-c", _TIMED.format(imports=imports)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    alone, both = side_by_side(
        rounds, lambda: importing("import dagster"), lambda: importing("import dagster, finance_os.definitions")
    )
    return [Figure("import finance_os.definitions beyond dagster", both - alone, "s", at_most=1.0)]
