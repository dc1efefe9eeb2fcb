"""How long workers wait for a sign of life from each other before they give up."""

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context  # TensorFlow offers these settings nowhere else.

HEARTBEAT_SECONDS = 100
"""TensorFlow's own 10 s end a training on busy machines: while a model is traced, a starved
process may not get to answer for longer. A process that ends is noticed at once all the same, since
its connections break; only a machine that falls silent is noticed this late."""

END_SECONDS = 30
"""How long a worker that ends waits for the others to end."""


def be_patient() -> None:
    """Sets these times for the workers in TF_CONFIG; comes before their strategy is made."""
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    coordination = config_pb2.ConfigProto().experimental.coordination_config
    jobs = [job for job in ("chief", "worker") if job in cluster.jobs]
    for job in jobs:
        coordination.coordinated_job_list.add(name=job, num_tasks=cluster.num_tasks(job))
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{jobs[0]}/replica:0/task:0",
        heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
        shutdown_barrier_timeout_in_ms=END_SECONDS * 1000,
        coordinated_jobs=list(coordination.coordinated_job_list),
    )
