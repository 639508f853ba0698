"""The line of a program at which a frame stands, read in a way that cannot stop the worker.

It is read while something hangs, and that may be the very file system that the program lies on: what is mounted from
elsewhere is left alone, and of local files only regular ones are opened. Where there is no line nothing is said.
"""

from __future__ import annotations

import os
import stat

from k8sddp.worker.contract.stacks import Frame

MAX_FILE = 4 * 1024 * 1024  # bytes of a file that are read for one line of it

# File systems whose server may be away, and then whoever looks waits for ever (the types of /proc/filesystems)
_REMOTE = (
    "nfs",
    "cifs",
    "smb",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "9p",
    "afs",
    "fuse",
    "virtiofs",
    "wekafs",
)
_OCTAL = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}  # in /proc/PID/mountinfo


def line(pid: int, frame: Frame) -> str:
    """Return the text of the line, empty where it cannot be had; a relative path is one of the rank's folder."""
    if not frame.line or frame.file.startswith("<"):
        return ""
    try:
        path = frame.file if os.path.isabs(frame.file) else os.path.join(os.readlink("/proc/%d/cwd" % pid), frame.file)
        if is_remote(path):
            return ""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):  # gone with its process, not for us, or no path at all
        return ""
    try:
        data = os.pread(fd, MAX_FILE, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        data = b""
    finally:
        os.close(fd)
    lines = data.split(b"\n", frame.line)
    text = lines[frame.line - 1] if len(lines) >= frame.line else b""
    return text.decode("utf-8", "replace").strip()


def is_remote(path: str) -> bool:
    """Return whether a file lies on another machine, without touching it; where that is not known, that it does."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            mounts = file.read().decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return True
    return kind_of(path, mounts).startswith(_REMOTE)


def kind_of(path: str, mounts: list[str]) -> str:
    """Return the type of the file system of an absolute path by the lines of mountinfo (proc_pid_mountinfo(5))."""
    path = os.path.normpath(path)
    longest, kind = -1, ""
    for text in mounts:
        before, dash, after = text.partition(" - ")
        fields = before.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = fields[4]
        for escape, char in _OCTAL.items():
            point = point.replace(escape, char)
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # of two at one place the later lies on top
            longest, kind = len(point), after.split(" ")[0]
    return kind
