"""What kind of disk a path is on."""

from pathlib import Path

# SQLite's WAL needs shared memory between its users, which network file systems do not give
# (https://sqlite.org/wal.html). So: only where we know that it works. Only these, too, keep removed files for all who
# have them open: an NFS client does so for its own processes only.
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "bcachefs"})


def allows_wal(folder: Path) -> bool:
    return filesystem_type(folder) in _LOCAL


def keeps_open_files(folder: Path) -> bool:
    """Whether a file that is removed stays whole for everybody who has it open or mapped, on whichever host."""
    return filesystem_type(folder) in _LOCAL


def filesystem_type(folder: Path) -> str:
    """The kernel's name of the file system `folder` is on; "unknown" where /proc/mounts does not tell."""
    try:
        mounts = Path("/proc/mounts").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return "unknown"
    target = folder.resolve()
    best, kind = -1, "unknown"
    for line in mounts:
        _, point, mount_kind, *_ = line.split(" ")
        mount = Path(point.encode("latin-1", "backslashreplace").decode("unicode_escape"))
        if target.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), mount_kind
    return kind
