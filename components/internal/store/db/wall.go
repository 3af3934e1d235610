package db

import "time"

// Wall is the time by the machine's clock, which may be set at any time, forward and back.
func (s *Space) Wall() time.Time { return s.d.clock.Wall() }
