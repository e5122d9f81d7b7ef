#!/usr/bin/env bash
# Train on the machines of a host file, one name per line, with so many processes on each:
#
#     deploy/hosts.sh HOSTFILE PROCESSES COMMAND…
#     deploy/hosts.sh hosts.txt 8 pretrain --config run.toml --shard full
#
# The current folder must be the same on all of them. Ctrl-C and SIGTERM reach every machine; the run
# is saved before they end. SSH may name another command than ssh, PORT another port of the first
# machine than 29400.
set -euo pipefail

if (( $# < 3 )); then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
mapfile -t hosts < <(grep -v '^[[:space:]]*\(#\|$\)' "$1")
processes=$2
shift 2

run_id=tongwen-$$-$RANDOM
port=${PORT:-29400}
pid_file=/tmp/$run_id

# Seconds that torchrun gives processes to save in, before it kills them.
save_seconds=600

printf -v command '%q ' torchrun --nnodes "${#hosts[@]}" --nproc-per-node "$processes" \
    --rdzv-backend c10d --rdzv-id "$run_id" --rdzv-endpoint "${hosts[0]}:$port" \
    --shutdown-timeout "$save_seconds" -m tongwen "$@"
printf -v here '%q' "$PWD"

stop() {
    for node in "${!hosts[@]}"; do
        ${SSH:-ssh} "${hosts[$node]}" "kill -TERM \$(cat $pid_file-$node)" || true
    done
}
trap stop TERM INT

# The status of each machine, written when it has ended.
ended=$(mktemp -d)
for node in "${!hosts[@]}"; do
    {
        status=0
        ${SSH:-ssh} "${hosts[$node]}" \
            "cd $here && echo \$\$ > $pid_file-$node && exec $command" || status=$?
        echo "$status" > "$ended/$node"
    } &
done
# Short sleeps, as a signal is answered between two commands.
while (( $(find "$ended" -type f -size +0 | wc -l) < ${#hosts[@]} )); do
    sleep 0.5
done

for node in "${!hosts[@]}"; do
    ${SSH:-ssh} "${hosts[$node]}" "rm -f $pid_file-$node" || true
done
code=$(sort -n "$ended"/* | tail -n 1)
rm -r "$ended"
exit "$code"
