"""OpenStack Swift with its S3 interface, all of it in one process, on loopback: a real object storage for tests.

swift-server.py FOLDER, with SLIPWAY_TEST_KEY_ID (`account:user`) and SLIPWAY_TEST_SECRET in the environment. Prints
`listening PORT`. Its folder must be on a file system with extended attributes.

Swift in production is four servers on many machines; its own functional tests, too, run them so:
https://opendev.org/openstack/swift/src/branch/master/test/functional/__init__.py
"""

import os
import sys

import eventlet

eventlet.monkey_patch()

import eventlet.wsgi  # noqa: E402
from swift.common import utils  # noqa: E402

# What a test stores need not outlive the machine.
os.fsync = os.fdatasync = lambda _file: None

FOLDER = os.path.abspath(sys.argv[1])
KEY_ID = os.environ.pop("SLIPWAY_TEST_KEY_ID")
SECRET = os.environ.pop("SLIPWAY_TEST_SECRET")
ACCOUNT, USER = KEY_ID.split(":")

# Read when the other modules are loaded.
utils.SWIFT_CONF_FILE = os.path.join(FOLDER, "swift.conf")
with open(utils.SWIFT_CONF_FILE, "w") as file:
    file.write("[swift-hash]\nswift_hash_path_suffix = test\n[storage-policy:0]\nname = zero\ndefault = yes\n")

from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

STORAGE = f"""
[DEFAULT]
devices = {FOLDER}/devices
swift_dir = {FOLDER}
mount_check = false
disable_fallocate = true
[pipeline:main]
pipeline = %(kind)s-server
[app:%(kind)s-server]
use = egg:swift#%(kind)s
"""

# S3's own limits where Swift's defaults are others; but short pages, so that lists have several.
PROXY = f"""
[DEFAULT]
swift_dir = {FOLDER}
[pipeline:main]
pipeline = catch_errors s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = eu-central-1
s3_acl = false
dns_compliant_bucket_names = true
max_upload_part_num = 10000
max_bucket_listing = 100
[filter:tempauth]
use = egg:swift#tempauth
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
"""


class NoCache:
    """In the place of memcached. It keeps nothing: what is changed here is seen at once."""

    def get(self, *_args, **_options):
        return None

    def __getattr__(self, _name):
        return lambda *_args, **_options: None


class Quiet:
    def write(self, _text):
        pass

    def flush(self):
        pass


def listen():
    return eventlet.listen(("127.0.0.1", 0))


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o600)
    return path


def serve(socket, app):
    def with_cache(environment, start_response):
        environment["swift.cache"] = NoCache()
        return app(environment, start_response)

    eventlet.spawn(eventlet.wsgi.server, socket, with_cache, Quiet(), debug=False)


def main():
    os.makedirs(os.path.join(FOLDER, "devices", "d"), exist_ok=True)
    sockets = {kind: listen() for kind in ("account", "container", "object")}
    for kind, socket in sockets.items():
        builder = RingBuilder(2, 1, 0)
        port = socket.getsockname()[1]
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": port,
                         "replication_ip": "127.0.0.1", "replication_port": port, "device": "d", "meta": ""})
        builder.rebalance()
        builder.get_ring().save(os.path.join(FOLDER, f"{kind}.ring.gz"))
    for kind, socket in sockets.items():
        serve(socket, loadapp(write(f"{kind}.conf", STORAGE % {"kind": kind}), global_conf={"log_name": kind}))
    login = f"[filter:tempauth]\nuse = egg:swift#tempauth\nuser_{ACCOUNT}_{USER} = {SECRET} .admin\n"
    conf = write("proxy.conf", PROXY.replace("[filter:tempauth]\nuse = egg:swift#tempauth\n", login))
    front = listen()
    serve(front, loadapp(conf, global_conf={"log_name": "proxy"}))
    print(f"listening {front.getsockname()[1]}", flush=True)
    # Whoever started this keeps our standard input open; its end is ours.
    eventlet.tpool.execute(sys.stdin.read)
    os._exit(0)


main()
