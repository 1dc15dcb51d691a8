package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// diskScript mounts a disk in memory where only this process and its children see it, and goes on as somebody else.
// Arguments: the directory, bytes, user, group, then the command.
const diskScript = `mkdir "$1/data" && mount -t tmpfs -o "size=$2,uid=$3,gid=$4,mode=700" tmpfs "$1/data" || exit
uid=$3 gid=$4
shift 4
exec setpriv --reuid="$uid" --regid="$gid" --clear-groups -- "$@"`

// onDisk is what to put in front of a command for it to find a small disk at dir/data.
func onDisk(dir string, bytes int64, user *syscall.Credential) []string {
	return []string{"unshare", "--mount", "/bin/sh", "-c", diskScript, "disk", dir, strconv.FormatInt(bytes, 10),
		strconv.Itoa(int(user.Uid)), strconv.Itoa(int(user.Gid))}
}

// CanHaveDisk tells why a cluster cannot have a disk of its own here: it takes root, and a system that lets root mount.
func CanHaveDisk(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("only root can mount a disk")
	}
	if _, err := ask(ctx, nil, "unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"); err != nil {
		return fmt.Errorf("mount a disk: %w", err)
	}
	_, err := ask(ctx, nil, "setpriv", "--version")
	return err
}
