package folder

import (
	"io/fs"
	"syscall"
)

func identity(info fs.FileInfo) (changed int64, inode uint64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ctim.Nano(), s.Ino
	}
	return info.ModTime().UnixNano(), 0
}
