#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Flow sizes of the whole network, with curl: bytes of every pair of hosts,
# asked from the root agent, which merges the answers of all hosts. Each
# packet counts once, at its receiver:
#     flow_sizes.sh 10.0.0.2 [PROTO [SECONDS]]
[ $# -ge 1 ] || { echo "usage: $0 ROOT [PROTO [SECONDS]]" >&2; exit 2; }
root=$1 proto=${2:-all} seconds=${3:-10}
headers=$(mktemp)
trap 'rm -f "$headers"' EXIT

ask() {
	reply=$(curl --silent --show-error --fail-with-body --max-time 5 \
		--dump-header "$headers" --data "$1" "http://$root:8000/") ||
		{ echo "$reply" >&2; exit 1; }
}

ask "type=config sketch&interface=INPUT&proto=$proto"
counter="sketch_id=$reply&counter_key_type=src_dst&increment=byte"
ask "type=config sketch counter&$counter"
echo "counting for $seconds s"
sleep "$seconds"

# {"10.0.0.1,10.0.0.2": 168, "10.0.0.1,10.0.0.3": 168}, the largest first
ask "type=query heavy hitters&hitter_threshold=0&$counter"
echo "$reply" | sed 's/[{}"]//g; s/, /\n/g' |
	sed 's/\(.*\),\(.*\): \(.*\)/\3 \1 -> \2/'
# hosts that answered, hosts that did not and why, packets not counted
tr -d '\r' <"$headers" |
	grep '^X-Linnet-\(Answered\|Missing\|Missed-Packets\):'
