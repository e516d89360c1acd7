"""What confinement promises, each with an attack: no network, no host files, environment or processes, no way to lift that."""

from __future__ import annotations

import os
import platform
import secrets
import socket
from collections.abc import Iterator

import pytest
from sandbox_attacks import ANY_BODY, EACH_LEVEL, IN_TMP, QUICK, attack

from pinetune.sandbox.levels import ENVIRONMENT, LEVELS
from pinetune.sandbox.pool import WarmPool
from pinetune.sandbox.seccomp import MACHINES, REFUSED, program

pytestmark = pytest.mark.skipif(program() is None, reason=f"no system-call filter for {platform.machine()}")
COLUMN = MACHINES[platform.machine()].column if platform.machine() in MACHINES else 0


@pytest.fixture(params=EACH_LEVEL)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=EACH_LEVEL)
def any_body(request: pytest.FixtureRequest) -> Iterator[WarmPool]:
    """One pool for many attacks: each call brings its own function body, and none may harm the next."""
    graders = WarmPool(ANY_BODY, LEVELS[request.param], QUICK, size=1)
    yield graders
    graders.close()


CLIB = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def said_by_kernel(call: str) -> str:
    return f"{CLIB}if libc.{call} >= 0: raise ValueError('done')\nraise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # files
        ("open('/etc/passwd').read()", "FileNotFoundError"),
        ("open('/etc/shadow').read()", "FileNotFoundError"),
        ("os.listdir(item['home'])", "FileNotFoundError"),
        ("os.listdir('/home')", "FileNotFoundError"),
        ("os.listdir('/var')", "FileNotFoundError"),
        ("os.listdir('/sys')", "FileNotFoundError"),
        ("open(item['this_file']).read()", "FileNotFoundError"),
        ("open('/usr/planted', 'w')", "Error"),
        ("open('/planted', 'w')", "Read-only file system"),
        ("open('/dev/planted', 'w')", "Read-only file system"),
        ("open('/etc/planted', 'w')", "Read-only file system"),
        ("open(os.path.join(sys.prefix, 'planted'), 'w')", "Error"),
        ("open('/pinetune-worker.py', 'a')", "Error"),
        ("os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0))", "PermissionError"),
        ("raise ValueError(sorted(set(os.listdir('/dev')) - {'core', 'ptmx', 'pts', 'console', 'tty', 'stdin', 'stdout', 'stderr'}))",
         "['fd', 'full', 'null', 'random', 'shm', 'urandom', 'zero']"),
        ("raise ValueError(os.listdir('/dev/shm') + IN_TMP)", "ValueError: []"),
        ("raise ValueError(input())", "EOFError"),
        ("raise ValueError(repr(sys.stdin.read() + os.read(0, 9).decode()))", "ValueError: ''"),
        # the kernel's own files
        ("open('/proc/sys/kernel/hostname', 'w')", "Error"),
        ("open('/proc/sysrq-trigger', 'w')", "Error"),
        ("open('/proc/kcore', 'rb').read(8)", "Error"),
        ("os.listdir('/proc/1/root/')", "PermissionError"),
        ("os.listdir('/proc/1/fd')", "PermissionError"),
        # network
        ("socket.create_connection(('1.1.1.1', 53), timeout=5)", "Network is unreachable"),
        ("socket.create_connection(('2606:4700:4700::1111', 53), timeout=5)", "unreachable"),
        ("socket.create_connection(('127.0.0.1', item['port']), timeout=5)", "Connection refused"),
        ("socket.getaddrinfo('example.com', 80)", "gaierror"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))", "Network is unreachable"),
        ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "PermissionError"),
        ("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "Address family not supported"),
        ("socket.socket(40, socket.SOCK_STREAM)", "Address family not supported"),
        ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "Address family not supported"),
        ("socket.socket(socket.AF_UNIX).connect('\\0' + item['abstract'])", "ConnectionRefusedError"),
        ("socket.socket(socket.AF_UNIX).connect(item['unix'])", "FileNotFoundError"),
        # users and processes
        ("os.setuid(0)", "Error"),
        ("os.setgroups([0])", "PermissionError"),
        ("os.kill(1, 9)\nos.kill(int(item['pid']), 9)", "Error"),
        ("raise ValueError(len([p for p in os.listdir('/proc') if p.isdigit()]) <= 3)", "ValueError: True"),
        ("raise ValueError([l for l in open('/proc/self/status') if l[:6] in ('CapPrm', 'CapEff', 'CapAmb') and int(l[7:], 16)])",
         "ValueError: []"),
        ("raise ValueError(sorted(set(os.environ) - {'PWD'}))", f"ValueError: {sorted(ENVIRONMENT)}"),
        ("open(f'/proc/{os.getppid()}/mem', 'r+b')", "PermissionError"),
        ("os.listdir(f'/proc/{os.getppid()}/fd')", "PermissionError"),
        ("open(f'/proc/{os.getppid()}/fd/3', 'wb')", "PermissionError"),
        ("open(f'/proc/{os.getppid()}/environ', 'rb').read()", "PermissionError"),
        # system calls
        (said_by_kernel("unshare(0x10000000)"), "PermissionError"),
        (said_by_kernel("syscall(item['clone'], 0x10000000 | 17, 0, 0, 0, 0)"), "PermissionError"),
        (said_by_kernel("syscall(435, 0, 0)"), "Function not implemented"),  # clone3 hides its flags
        (said_by_kernel("mount(b't', b'/tmp', b'tmpfs', 0, 0)"), "PermissionError"),
        (said_by_kernel("mount(b'', b'/usr', b'', 32 | 4096, 0)"), "PermissionError"),  # remount
        (said_by_kernel("umount2(b'/usr', 2)"), "PermissionError"),
        (said_by_kernel("ptrace(16, os.getppid(), 0, 0)"), "PermissionError"),
        (said_by_kernel("setns(0, 0)"), "PermissionError"),
        ("os.chroot('/')", "PermissionError"),
        ("os.memfd_create('x')", "PermissionError"),
        ("import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))", "PermissionError"),
        ("os.sched_setaffinity(0, os.sched_getaffinity(0))", "PermissionError"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))", "ValueError: not allowed to raise maximum limit"),
    ],
)  # fmt: skip
def test_the_host_is_out_of_reach(any_body: WarmPool, text: str, said: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, abstract = str(tmp_path_factory.mktemp("s") / "u"), f"pinetune-{secrets.token_hex(8)}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as unnamed:
        named.bind(path)
        named.listen()
        unnamed.bind("\0" + abstract)
        unnamed.listen()
        host = {"home": os.path.expanduser("~/.ssh"), "this_file": __file__, "port": server.getsockname()[1], "pid": os.getpid()}
        host |= {"unix": path, "abstract": abstract, "clone": MACHINES[platform.machine()].clone}
        outcome = any_body.call({}, {"text": text.replace("IN_TMP", IN_TMP)} | host)
    assert outcome.value is None and outcome.kind == "runtime"
    assert said in outcome.error
    assert not outcome.worn


@pytest.mark.parametrize("name", REFUSED)
def test_refused_calls(any_body: WarmPool, name: str) -> None:
    """Each is turned away by the filter, whatever its arguments: where it stays with the kernel, EFAULT or EINVAL would show."""
    outcome = any_body.call({}, {"text": said_by_kernel(f"syscall({REFUSED[name][COLUMN]}, -1, -1, -1, -1, -1)")})
    assert "PermissionError" in outcome.error


def test_the_environment_is_empty(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    text = (
        "seen = sorted(os.environ)\n"
        "for process in ('1', '2', 'self'):\n"
        "    try: seen.append(open(f'/proc/{process}/environ').read())\n"
        "    except OSError: seen.append('closed')\n"
        "seen.append(subprocess.check_output([sys.executable, '-c', 'import os; print(os.environ)'], text=True))\n"
        "raise ValueError(seen)"
    )
    outcome = attack(level, text)
    assert "PYTHONHASHSEED" in outcome.error and "closed" in outcome.error
    assert "sk-secret" not in outcome.error


def test_no_file_of_the_host_is_writable(level: str) -> None:
    """Every mount but the scratch folders, /proc and the harmless devices is read-only, also below the interpreter."""
    text = (
        "mounts = [line.split() for line in open('/proc/self/mountinfo')]\n"
        "writable = sorted(m[4] for m in mounts if 'rw' in m[5].split(','))\n"
        "raise ValueError([path for path in writable if not path.startswith('/dev/') or path == '/dev/shm'])"
    )
    said = attack(level, text).error.splitlines()[-1]
    assert said == "ValueError: ['/dev/shm', '/proc', '/tmp']"


def test_other_architectures_calls_end_the_process(level: str) -> None:
    """32-bit calls carry other numbers: the filter would not know them."""
    if platform.machine() != "x86_64":
        pytest.skip("only x86_64 processors take two kinds of system calls")
    text = (
        "import ctypes, mmap\n"
        "memory = mmap.mmap(-1, 4096, prot=7)\n"
        "memory.write(bytes([0x53, 0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0x5B, 0xC3]))  # push rbx; eax = getpid; int 0x80; pop rbx; ret\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n"
        "raise ValueError(ctypes.CFUNCTYPE(ctypes.c_int)(address)())"
    )
    assert attack(level, text).error == "the grader's process was killed by SIGSYS before grade() returned"
