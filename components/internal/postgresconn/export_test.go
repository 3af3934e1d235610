package postgresconn

// Mending is the last time that it was tried to make anew what is missing, whenever that was.
func (c *Client) Mending() any { return c.lastMending() }
