package client

// WithTrust stands in for users of this machine that own a listener: whom the token is for.
func WithTrust(trusts func(uid uint32) bool) Option {
	return func(o *options) { o.trusts = trusts }
}

// WithDefaultAddress stands in for the default port, which a real sidecar may hold while tests run.
func WithDefaultAddress(address string) Option {
	return func(o *options) { o.fallbackAddress = address }
}
