"""Every picture of a folder on a server, many at once: python examples/batch_over_grpc.py FOLDER OUT HOST:PORT"""

import sys
from hashlib import sha256
from pathlib import Path

from latent_inv.client import Client
from latent_inv.errors import LatentInvError

folder, out, address = sys.argv[1:]
jobs = {}
with Client(address) as client:
    for path in sorted(path for path in Path(folder).iterdir() if path.is_file()):
        data = path.read_bytes()
        try:
            jobs[path.name] = client.jobs.create(data, steps=50, priority="bulk", request_id=sha256(data).hexdigest())
        except LatentInvError as error:  # no picture, or no room: the others go on
            print(path.name, "refused:", error)
    for name, job in jobs.items():
        ended = client.jobs.wait(job.job_id)  # over broken lines and restarts of the server
        print(name, ended.state, ended.result or ended.error)
        if ended.result:
            ended.result.save(Path(out, name))
