package hold

import "context"

// Sweep runs the sweeper once.
func (s *Server) Sweep(ctx context.Context) error { return s.sweep(ctx) }
