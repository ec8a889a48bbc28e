package holdclient

import "time"

// WithPartIdle gives holds less time to move a part.
func (c *Client) WithPartIdle(d time.Duration) *Client {
	c.partIdle = d
	return c
}

// WithClock makes what is remembered older.
func (c *Client) WithClock(now func() time.Time) { c.now = now }
