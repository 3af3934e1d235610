package nacosconn

import "github.com/nacos-group/nacos-sdk-go/v2/model"

// Request is what a server is asked. Its body is JSON, its type goes beside it.
type Request interface{ kind() string }

// head is what all answers begin with.
type head struct {
	ResultCode int    `json:"resultCode"`
	ErrorCode  int    `json:"errorCode"`
	Success    bool   `json:"success"`
	Message    string `json:"message,omitempty"`
	RequestID  string `json:"requestId,omitempty"`
}

type (
	serverCheck struct{}
	healthCheck struct{}
	setup       struct {
		ClientVersion string            `json:"clientVersion"`
		Labels        map[string]string `json:"labels"`
		Abilities     struct{}          `json:"clientAbilities"`
	}
)

func (serverCheck) kind() string { return "ServerCheckRequest" }
func (healthCheck) kind() string { return "HealthCheckRequest" }
func (setup) kind() string       { return "ConnectionSetupRequest" }

// DataID is where a configuration is. Tenant is empty for the public namespace.
type DataID struct {
	DataID string `json:"dataId"`
	Group  string `json:"group"`
	Tenant string `json:"tenant"`
}

// ConfigQuery asks for a configuration; the answer is a ConfigAnswer.
type ConfigQuery struct{ DataID }

// ConfigAnswer is a configuration. Modified is in milliseconds since 1970 by the server's clock.
type ConfigAnswer struct {
	Content     string `json:"content"`
	ContentType string `json:"contentType"`
	MD5         string `json:"md5"`
	Modified    int64  `json:"lastModified"`
	Note        string `json:"encryptedDataKey"` // kept beside the content, and replaced with it
}

// ConfigPublish writes a configuration; with CasMD5 only in place of content that has this MD5.
type ConfigPublish struct {
	DataID
	Content string            `json:"content"`
	CasMD5  string            `json:"casMd5,omitempty"`
	More    map[string]string `json:"additionMap"`
}

// ConfigRemove removes one.
type ConfigRemove struct{ DataID }

// ConfigListen asks to be told of changes, or not to be told any more; nothing is said of those that have their MD5.
type ConfigListen struct {
	Listen  bool                        `json:"listen"`
	Configs []model.ConfigListenContext `json:"configListenContexts"`
}

func (ConfigQuery) kind() string   { return "ConfigQueryRequest" }
func (ConfigPublish) kind() string { return "ConfigPublishRequest" }
func (ConfigRemove) kind() string  { return "ConfigRemoveRequest" }
func (ConfigListen) kind() string  { return "ConfigBatchListenRequest" }

// ConfigChanged is pushed, with a DataID, when a configuration has changed that is listened to.
const ConfigChanged = "ConfigChangeNotifyRequest"

// Service names one of naming.
type Service struct {
	Namespace string `json:"namespace"`
	Group     string `json:"groupName"`
	Name      string `json:"serviceName"`
}

// InstancesPublish says what this connection has of a service: these instances, in place of what it had, and as long as it lasts.
type InstancesPublish struct {
	Service
	Type      string           `json:"type"` // Batch
	Instances []model.Instance `json:"instances"`
}

// InstancesRemove says that this connection has none of a service any more.
type InstancesRemove struct {
	Service
	Type     string         `json:"type"` // Deregister
	Instance model.Instance `json:"instance"`
}

// Types of the two above.
const (
	Batch      = "batchRegisterInstance"
	Deregister = "deregisterInstance"
)

// Subscribe asks for the instances of a service, and to be told of all that come after; or not to be told any more. The answer is a
// ServiceInfo.
type Subscribe struct {
	Service
	Subscribe bool   `json:"subscribe"`
	Clusters  string `json:"clusters"`
}

// ServiceInfo is a service with all its instances.
type ServiceInfo struct {
	Info model.Service `json:"serviceInfo"`
}

func (InstancesPublish) kind() string { return "BatchInstanceRequest" }
func (InstancesRemove) kind() string  { return "InstanceRequest" }
func (Subscribe) kind() string        { return "SubscribeServiceRequest" }

// InstancesChanged is pushed, with a ServiceInfo, when a service has changed that is subscribed to. It does not say of which namespace.
const InstancesChanged = "NotifySubscriberRequest"
