#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Port scans of a host, with curl: who asked it for more than 20 ports in a
# second, and for how many in all. The same as port_scan.py:
#     port_scan.sh 10.0.0.5 [SECONDS]
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: $0 AGENT [SECONDS]" >&2; exit 2; }
agent=$1 interval=0.3

ask() {
	reply=$(curl --silent --show-error --fail-with-body --max-time 5 \
		--data "$1" "http://$agent:8000/") ||
		{ echo "$reply" >&2; exit 1; }
}

ask 'type=config sketch&interface=INPUT'
counter="sketch_id=$reply&counter_key_type=src_dport"
ask "type=config sketch counter&$counter"
echo "watching $agent"

# Each reply is the last second: {"10.0.0.6,8008": 1, "10.0.0.6,8009": 1}.
# The ports of a scan are collected; it is over, and reported, when five
# replies in a row had no new one, or after 100. (interactive: look at each line
# at once.)
end=$(($(date +%s) + ${2:-0}))
while [ $# -eq 1 ] || [ "$(date +%s)" -lt "$end" ]; do
	sleep "$interval"
	ask "type=query real time counter&$counter"
	echo "$reply"
done | awk -W interactive '
{
	n = gsub(/[{}" ]/, "") ? split($0, item, ",") : 0
	split("", ports)
	for (i = 1; i < n; i += 2) {
		sub(/:[0-9]+$/, "", item[i + 1])
		ports[item[i]]++
	}
	for (i = 1; i < n; i += 2) {
		source = item[i]
		port = source "," item[i + 1]
		if ((source in known || ports[source] > 20) && !(port in seen)) {
			seen[port]
			if (!known[source]++)
				first[source] = NR
			newest[source] = NR
		}
	}
	for (source in known) {
		if (NR - newest[source] < 5 && NR - first[source] < 100)
			continue
		print "portscan detected.", source, known[source]
		for (port in seen)
			if (index(port, source ",") == 1)
				delete seen[port]
		delete known[source]
	}
}'
