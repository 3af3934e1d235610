package runtime

import (
	"context"
	"path/filepath"
	"time"

	"github.com/outrigger-mesh/outrigger/runtime/mesh"
	"github.com/outrigger-mesh/outrigger/runtime/policy"
	"github.com/outrigger-mesh/outrigger/runtime/telemetry/admin"
)

// firstPolicies is how long a start waits for the policies of a component, if none are known from before: calls are not to be decided by the
// file's for a moment.
const firstPolicies = 2 * time.Second

func (s *sidecar) startPolicies(ctx context.Context) (err error) {
	c := s.config()
	s.policies = &mesh.Table{}
	s.rules, err = policy.Open(policy.Options{Table: s.policies, Caller: s.app, Own: c.Mesh.Policies, From: c.Mesh.PoliciesFrom, Logger: s.log,
		File:   filepath.Join(s.dataDir, "mesh", s.app.Namespace+"."+s.app.App+".policies.json"),
		Config: func(name string) (policy.Component, error) { return s.fronts.configs.Get(name) }})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, firstPolicies)
	defer cancel()
	s.rules.Wait(ctx)
	return nil
}

func (s *sidecar) shownPolicies() admin.Policies {
	now := s.rules.State()
	return admin.Policies{Source: now.Source, Version: now.Version, Stale: now.Stale, Refused: now.Refused, Error: now.Away}
}
