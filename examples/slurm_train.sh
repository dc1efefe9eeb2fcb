#!/bin/bash
#SBATCH --job-name=loc_keras
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#
# One worker a node, each with all GPUs of its node:
#
#   sbatch examples/slurm_train.sh CONFIG.yaml RUN_DIR
#
# A job that is requeued goes on with the unfinished run in RUN_DIR. Data, config and RUN_DIR must lie
# where all nodes see them. train.batch_size of the config is the
# batch of all GPUs together, here a multiple of 2 x 8. Without GPUs leave out --gpus-per-node.
#
# TensorFlow's SlurmClusterResolver is not used: it sorts nodes as text (n10 before n2), while SLURM
# numbers its tasks in the order of the list, and it needs GPUs. `scontrol` is SLURM's own reader.
set -euo pipefail

# A port of this job's own, so that two jobs may share a node.
port=$((20000 + SLURM_JOB_ID % 20000))
workers=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
export WORKERS="$workers"

# Task N runs on node N of the list, since there is one task a node.
srun --kill-on-bad-exit=1 bash -c '
  export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]},
    \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
  TF_CONFIG=$(echo $TF_CONFIG)
  exec python -m loc_keras.train --config "$0" --run-dir "$1"
' "$1" "$2"
