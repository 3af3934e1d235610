package policy

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/outrigger-mesh/outrigger/runtime/atomicfile"
	"github.com/outrigger-mesh/outrigger/runtime/config"
	"github.com/outrigger-mesh/outrigger/runtime/mesh"
)

// kept is the form of the file.
type kept struct {
	From    config.PoliciesFrom `json:"from"`
	Version string              `json:"version"`
	Text    string              `json:"text"`
}

// recall puts in force what was before this start. What cannot be read of it is asked for again anyway.
func (k *Keeper) recall() error {
	if k.opts.From.Component == "" {
		return k.put(nil, mesh.Origin{})
	}
	last, err := k.read()
	if err == nil && last.From == k.opts.From {
		if err = k.put([]byte(last.Text), mesh.Origin{Source: k.name(), Version: last.Version, Stale: true}); err == nil {
			return nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		k.opts.Logger.Warn("the mesh's policies that were kept cannot be read", "file", k.opts.File, "err", err)
	}
	return k.put(nil, mesh.Origin{})
}

func (k *Keeper) read() (last kept, err error) {
	data, err := os.ReadFile(k.opts.File)
	if err == nil {
		err = json.Unmarshal(data, &last)
	}
	return last, err
}

// keep writes down what is in force. k.mu is held.
func (k *Keeper) keep() {
	var err error
	if k.text == nil {
		if err = os.Remove(k.opts.File); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		data, _ := json.Marshal(kept{From: k.opts.From, Version: k.origin.Version, Text: string(k.text)}) // of such types it never fails
		if err = os.MkdirAll(filepath.Dir(k.opts.File), 0o700); err == nil {
			err = atomicfile.Write(k.opts.File, data)
		}
	}
	if err != nil {
		k.opts.Logger.Warn("the mesh's policies cannot be kept for the next start", "file", k.opts.File, "err", err)
	}
}
