#!/usr/bin/env bash
# A real SLURM of one node on loopback, to try and test cluster launches where there is no cluster.
#
#   scripts/slurm.sh up DIR      start it (the first time Debian's packages are unpacked into DIR; nothing is installed)
#   source DIR/env.sh            put sbatch, squeue, scontrol … on the PATH of this shell
#   scripts/slurm.sh down DIR    cancel its jobs and stop exactly what `up` started
#
# Needs Debian, root and, the first time, its package mirror. Exit codes: 0 up or down, 1 did not come up, 2 wrong usage,
# 3 cannot be done on this machine.
set -euo pipefail

cannot() { echo "slurm.sh: $1" >&2; exit 3; }

free_port() {  # the first port from $1 on that nobody listens on
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

running() {  # the process of daemon $1 from this folder, if it still runs; its id may have been reused since
  local pid
  pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/exe") == "$dir/root/"* ]] && echo "$pid"
}

unpack() {
  apt-get update -qq >/dev/null 2>&1 || cannot "no package mirror can be reached"
  local names
  names=$(apt-get install --simulate --no-install-recommends slurmctld slurmd slurm-client 2>/dev/null |
    awk '$1 == "Inst" {print $2}')
  mkdir -p "$dir/packages" "$dir/unpacked"
  # shellcheck disable=SC2086  # names are words
  (cd "$dir/packages" && apt-get download -qq $names >/dev/null 2>&1) || cannot "the SLURM packages cannot be fetched"
  for package in "$dir"/packages/*.deb; do dpkg --extract "$package" "$dir/unpacked"; done
  mv "$dir/unpacked" "$dir/root"  # last: its presence means all of it
}

configure() {
  local host megabytes controller
  host=$(hostname -s)
  megabytes=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  controller=$(free_port 16817)
  # The daemons listen on loopback only, because they do not authenticate anybody. A requeued task starts again after
  # the lifetime of a credential: two minutes by default, too long for a test.
  cat > "$dir/slurm.conf" <<CONF
ClusterName=windtunnel
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$(free_port $((controller + 1)))
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
PluginDir=$plugins
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,bf_interval=2,sched_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$megabytes State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=60 State=UP
CONF
  cat > "$dir/env.sh" <<ENV
export SLURM_CONF=$dir/slurm.conf
export LD_LIBRARY_PATH=$(dirname "$plugins"):$plugins\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
export PATH=$dir/root/usr/bin:$dir/root/usr/sbin:\$PATH
ENV
}

up() {
  [[ -n $(running slurmctld) && -n $(running slurmd) ]] && { echo "SLURM is up: source $dir/env.sh"; return; }
  command -v apt-get >/dev/null && command -v dpkg >/dev/null || cannot "needs Debian's apt-get and dpkg"
  [[ $EUID == 0 ]] || cannot "needs to be root, to start tasks as SLURM does"
  [[ -d $dir/root ]] || unpack
  plugins=$(echo "$dir"/root/usr/lib/*/slurm-wlm)
  [[ -d $plugins ]] || cannot "the SLURM packages are not where Debian has them"
  mkdir -p "$dir/state" "$dir/spool"
  configure
  source "$dir/env.sh"
  slurmctld-wlm
  slurmd-wlm -d "$dir/root/usr/sbin/slurmstepd-wlm" -N "$(hostname -s)"
  for _ in $(seq 60); do
    [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]] && { echo "SLURM is up: source $dir/env.sh"; return; }
    sleep 0.5
  done
  echo "slurm.sh: did not come up within 30 s; see $dir/slurmctld.log and $dir/slurmd.log" >&2
  down
  exit 1
}

down() {
  if [[ -n $(running slurmctld) ]]; then
    source "$dir/env.sh"
    scancel --partition=debug 2>/dev/null || true
    for _ in $(seq 30); do [[ -z $(squeue --noheader 2>/dev/null) ]] && break; sleep 0.5; done
  fi
  for daemon in slurmd slurmctld; do
    pid=$(running "$daemon") || continue
    kill "$pid"
    for _ in $(seq 40); do [[ -n $(running "$daemon") ]] || break; sleep 0.25; done
    echo "stopped $daemon ($pid)"
  done
}

[[ $# == 2 && ($1 == up || $1 == down) ]] || { echo "usage: slurm.sh up|down DIR" >&2; exit 2; }
mkdir -p "$2"
dir=$(cd "$2" && pwd)
"$1"
