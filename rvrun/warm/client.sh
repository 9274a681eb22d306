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
    # A target that was asked to end must not start again. From here on, a signal ends this process.
    [ -z "$received" ] || end_by "$received"
    # The lock of a run directory makes a fresh process wait for what is left of the target. Without
    # a run directory, the target might run twice.
    [ -z "$target" ] || [ "$RVRUN_RUN_DIR" ] || exit 137
    exec "${RVRUN_PYTHON:-python3}" -P -m rvrun "$@"
}

take_slot() {
    # A stream that is closed cannot be copied. (`:` would end the shell.)
    { true 5<&0 6>&1; } 2>/dev/null || return 1
    slot=0
    until { echo $$ >"$RVRUN_WARM/$slot.taken"; } 2>/dev/null; do
        slot=$((slot + 1))
        [ -p "$RVRUN_WARM/$slot" ] || return 1
    done
}

forward() {
    [ "$target" ] || end_by "$1"
    received=$1
    forwarded=yes
    case $1 in
    # make asks only its own children to end.
    TERM) kill -TERM "$target" ;;
    # The others reach all processes at a terminal: a target that uses it got them already, and
    # another one leads a group of its own.
    *) [ -t 0 ] || kill -s "$1" -- "-$target" || kill -s "$1" "$target" ;;
    esac 2>/dev/null
}

end_by() {
    # The target has dumped core already, if that was wanted.
    # shellcheck disable=SC3045 # not in POSIX, but in dash, bash and busybox
    ulimit -c 0
    trap - HUP INT QUIT TERM
    kill -"$1" $$
}

# Read what the warm worker says on descriptor 3. Returns only if the target has to start afresh.
# Descriptors 5 and 6 are stdin and stdout, which are the FIFOs while `read` and `echo` use these.
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

target=
received=
# shellcheck disable=SC2015 # all three conditions must hold
[ "$1" = run_command ] && [ -p "$RVRUN_WARM/requests" ] && take_slot || fresh "$@"
for signal in HUP INT QUIT TERM; do
    # shellcheck disable=SC2064 # the name of the signal is part of the trap
    trap "forward $signal" $signal
done
# shellcheck disable=SC2094 # a FIFO
follow 4<>"$RVRUN_WARM/$slot" 3<"$RVRUN_WARM/$slot" 5<&0 6>&1
fresh "$@"
