#!/bin/sh
# What a Makefile calls as `rvrun` beside a warm worker: it hands a target over, and ends as the
# target ends. Without a warm worker, or if that declines, the target starts in a fresh process.
#
#   RVRUN_WARM    the folder of the warm worker, see `rvrun.warm.protocol`
#   RVRUN_PYTHON  the interpreter of a fresh process
#
# Only builtins of the shell are used: a process would take longer than all the rest. A FIFO is
# opened for reading and writing first, because opening it for one of both waits for the other side,
# which may be gone.

# `>` does not overwrite a file, so only one client can take a slot.
set -C

fresh() {
    trap - HUP INT QUIT TERM
    exec "${RVRUN_PYTHON:-python3}" -P -m rvrun "$@"
}

take_slot() {
    slot=0
    until { echo $$ >"$RVRUN_WARM/$slot.taken"; } 2>/dev/null; do
        slot=$((slot + 1))
        [ -p "$RVRUN_WARM/$slot" ] || return 1
    done
}

forward() {
    if [ "$target" ]; then
        kill -"$1" "$target" 2>/dev/null
        forwarded=yes
    else
        end_by "$1"
    fi
}

end_by() {
    # The target has dumped core already, if that was wanted.
    ulimit -c 0
    trap - HUP INT QUIT TERM
    kill -"$1" $$
}

# `read` and `echo` use descriptors 0 and 1 for the FIFOs, while the warm worker may look at them. So
# the target's stdin and stdout are also kept as 5 and 6, unless they are closed.
keep_stdin() {
    if { command : 5<&0; } 2>/dev/null; then "$@" 5<&0; else "$@" 5<&-; fi
}

keep_stdout() {
    if { command : 6>&1; } 2>/dev/null; then "$@" 6>&1; else "$@" 6>&-; fi
}

# Read what the warm worker says on descriptor 3. Returns only if the target has to start afresh.
follow() {
    # The worker is now the only writer, so the FIFO ends when the worker does.
    exec 4>&-
    echo "$slot $$" 1<>"$RVRUN_WARM/requests"
    while :; do
        forwarded=
        if read -r client word number <&3; then
            case "$client $word" in
            "$$ pid") target=$number ;;
            "$$ exit") exit "$number" ;;
            "$$ signal") end_by "$number"; exit $((128 + number)) ;;
            "$$ fresh") return ;;
            esac
        elif [ -z "$forwarded" ]; then
            return
        fi
    done
}

[ "$1" = run_command ] && [ -p "$RVRUN_WARM/requests" ] && take_slot || fresh "$@"
target=
for signal in HUP INT QUIT TERM; do
    # shellcheck disable=SC2064 # the name of the signal is part of the trap
    trap "forward $signal" $signal
done
keep_stdin keep_stdout follow 4<>"$RVRUN_WARM/$slot" 3<"$RVRUN_WARM/$slot"
# The lock of a run directory makes a fresh process wait for what is left of the target. Without a
# run directory, the target might run twice.
[ -z "$target" ] || [ "$RVRUN_RUN_DIR" ] || exit 137
fresh "$@"
