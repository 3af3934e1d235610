package client

// WithDefaultAddress stands in for the default port, which a real sidecar may hold while tests run.
func WithDefaultAddress(address string) Option {
	return func(o *options) { o.fallbackAddress = address }
}
