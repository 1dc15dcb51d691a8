package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// tmp and not TMPDIR: the path of a unix socket must stay under about 104 bytes, and TMPDIR is long on macOS.
	tmp       = "/tmp"
	dirPrefix = "rowcast-pg-"
	// memory is where Linux keeps files in memory. A database is a thousand small files, and to make and remove them by the ten
	// thousand costs a disk's file system six times as much.
	memory = "/dev/shm"
	// roomInMemory is what has to be free there: containers have little of it, and a server that finds it full panics.
	roomInMemory = 6 << 30
	// lockName is the file that the owner and the server keep locked; whoever can lock it knows that both are gone.
	lockName = "lock"
	// halfMade is the age at which a directory without a lock was given up by its maker.
	halfMade = time.Hour
)

// unprivileged returns whom the server runs as where we are root, because Postgres refuses root; nil otherwise.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("run Postgres as root: it refuses, and there is neither a user postgres nor nobody")
}

// place is where directories of clusters are made: in memory if that is allowed and has so much room, else on the disk.
func place(inMemory bool, room uint64) string {
	const writable = 2
	var at syscall.Statfs_t
	if !inMemory || syscall.Statfs(memory, &at) != nil || uint64(at.Bavail)*uint64(at.Bsize) < room || syscall.Access(memory, writable) != nil {
		return tmp
	}
	return memory
}

// newDir makes a directory for one cluster, with its lock taken, after removing those of dead clusters.
func newDir(owner *syscall.Credential, inMemory bool) (dir string, lock *os.File, err error) {
	sweep(owner)
	for range 3 { // a sweep by somebody else may come between making the directory and locking it
		dir, err = os.MkdirTemp(place(inMemory, roomInMemory), dirPrefix)
		if err != nil {
			return "", nil, fmt.Errorf("make cluster directory: %w", err)
		}
		lock, err = takeLock(dir, os.O_CREATE)
		if err == nil {
			break
		}
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		return "", nil, fmt.Errorf("lock cluster directory: %w", err)
	}
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return "", nil, errors.Join(fmt.Errorf("give cluster directory away: %w", err), lock.Close(), os.RemoveAll(dir))
		}
	}
	return dir, lock, nil
}

// sweep removes the directories of clusters that are gone without having been able to clean up, as after a power cut.
// Errors are left alone: the next start tries again.
func sweep(owner *syscall.Credential) {
	uid := uint32(os.Geteuid())
	onDisk, _ := filepath.Glob(filepath.Join(tmp, dirPrefix+"*"))
	inMemory, _ := filepath.Glob(filepath.Join(memory, dirPrefix+"*"))
	for _, dir := range append(onDisk, inMemory...) {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue
		}
		of := info.Sys().(*syscall.Stat_t).Uid
		if of != uid && (owner == nil || of != owner.Uid) {
			continue
		}
		lock, err := takeLock(dir, 0)
		switch {
		case err == nil:
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		case errors.Is(err, os.ErrNotExist) && time.Since(info.ModTime()) > halfMade:
			_ = os.Remove(dir) // only if empty
		}
	}
}

// takeLock locks a cluster's directory, or fails at once. The lock belongs to the open file, so that those who inherit it
// keep it after we have closed ours.
func takeLock(dir string, flags int) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	now, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if held, err := f.Stat(); err != nil || !os.SameFile(held, now) {
		return nil, errors.Join(errors.New("the directory was swept"), err, f.Close())
	}
	return f, nil
}
