package nacos

// What the tests of other clients' writes need.
var (
	DataID    = dataID
	KeyOf     = keyOf
	ContentOf = contentOf
	ValueOf   = valueOf
)
