"""Reads /metrics with Prometheus' own parser, which refuses what is not in the format."""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

text = urllib.request.urlopen(sys.argv[1] + "/metrics").read().decode()
families = {family.name: family for family in text_string_to_metric_families(text)}
assert families["process_cpu_seconds"].type == "counter"
assert families["process_resident_memory_bytes"].samples[0].value > 1 << 20
assert families["process_start_time_seconds"].samples[0].value > 1.7e9
assert families["sessile_connections"].samples[0].value >= 1
print(f"{len(families)} families, {sum(len(family.samples) for family in families.values())} samples")
