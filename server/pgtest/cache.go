package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// rootCache is the cache where we are root: the server runs as somebody else, who must be able to read it.
const rootCache = "/var/cache/rowcast"

// Cache is the directory for what is fetched once. Until unlock is called it is this process's alone.
func Cache(ctx context.Context) (dir string, unlock func(), err error) {
	if dir, err = cacheDir(); err != nil {
		return "", nil, err
	}
	unlock, err = lockDir(ctx, dir)
	return dir, unlock, err
}

func cacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return rootCache, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache: %w", err)
	}
	return filepath.Join(dir, "rowcast"), nil
}

// lockDir makes a cache where there is none, and locks it.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	return lockFile(ctx, filepath.Join(dir, "lock"))
}

// privateDir makes a directory that only we can write to but the server's user can read, or refuses the one that is there.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cache: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("check cache: %w", err)
	}
	if of := info.Sys().(*syscall.Stat_t).Uid; !info.IsDir() || int(of) != os.Geteuid() || info.Mode()&0o022 != 0 {
		return fmt.Errorf("check cache: %s must be a directory of ours that nobody else can write to", dir)
	}
	return nil
}

// lockFile lets one process at a time work on the cache.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open cache lock: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock cache: %w", err), f.Close())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock cache: %w", ctx.Err()), f.Close())
		}
	}
}
