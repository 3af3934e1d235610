package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/outrigger-mesh/outrigger/components"
)

// object is a part of a JSON schema.
type object = map[string]any

// Schema is the JSON schema (draft 2020-12) of a configuration file with these capabilities, for editors: they complete
// names, show what each field is for, and mark what Load would refuse as far as a schema can see it. The words come from
// `doc` tags, the allowed values from `enum` tags, the defaults from the drivers.
func Schema(catalogs []components.Catalog) ([]byte, error) {
	defaults := Defaults()
	root := schemaOf(reflect.ValueOf(defaults))
	properties := root["properties"].(object)
	for _, c := range catalogs {
		properties[c.Capability()] = capabilitySchema(c)
	}
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "Outrigger configuration"
	root["minProperties"] = 1
	root["$defs"] = object{
		"reference": object{"type": "string", "pattern": `\$\{(env|file|secret):[^}]+\}`},
		"text":      object{"type": []string{"string", "number", "boolean"}},
		"duration": object{"anyOf": []object{
			{"type": "string", "pattern": `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$|^0$`},
			{"const": 0}, {"$ref": "#/$defs/reference"}}},
		"size": object{"anyOf": []object{
			{"type": "string", "pattern": `^[0-9]+ *(B|[KMGT]iB|[kMGT]B)$|^0$`},
			{"const": 0}, {"$ref": "#/$defs/reference"}}},
	}
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// capabilitySchema is the section of a capability: components by name.
func capabilitySchema(c components.Catalog) object {
	body := schemaOf(reflect.ValueOf(freshComponent()))
	fields := body["properties"].(object)
	fields["driver"] = object{"description": "which implementation it is", "anyOf": []object{{"enum": c.Drivers()}, {"$ref": "#/$defs/reference"}}}
	fields["options"] = object{"type": "object"}
	body["required"] = []string{"driver"}
	var rules []object
	for _, driver := range c.Drivers() {
		defaults, _ := c.Defaults(driver)
		options := schemaOf(reflect.ValueOf(defaults))
		options["description"] = "what the driver " + driver + " is told"
		rules = append(rules, object{
			"if":   object{"properties": object{"driver": object{"const": driver}}, "required": []string{"driver"}},
			"then": object{"properties": object{"options": options}},
		})
	}
	if rules != nil {
		body["allOf"] = rules
	}
	return object{
		"description":          "components of the capability " + c.Capability() + ", by the names that applications use",
		"type":                 "object",
		"propertyNames":        object{"pattern": componentName.String()},
		"additionalProperties": body,
	}
}

// schemaOf is the schema of a type, with the value as its default.
func schemaOf(v reflect.Value, inside ...reflect.Type) object {
	t := v.Type()
	switch kind := t.Kind(); {
	case kind == reflect.Pointer:
		if v.IsNil() {
			v = reflect.New(t.Elem())
		}
		return schemaOf(v.Elem(), inside...)
	case t == reflect.TypeFor[time.Duration]():
		return object{"$ref": "#/$defs/duration", "default": time.Duration(v.Int()).String()}
	case t == reflect.TypeFor[components.Size]():
		return object{"$ref": "#/$defs/size", "default": components.Size(v.Int()).String()}
	case t == reflect.TypeFor[components.Secret]() || isText(t):
		return object{"$ref": "#/$defs/text"}
	case kind == reflect.String:
		return object{"$ref": "#/$defs/text", "default": v.String()}
	case kind == reflect.Bool:
		return orReference(object{"type": "boolean"}, v)
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return orReference(integerSchema(t), v)
	case kind == reflect.Float32 || kind == reflect.Float64:
		return orReference(object{"type": "number"}, v)
	case kind == reflect.Slice || kind == reflect.Array:
		return object{"type": "array", "items": schemaOf(reflect.New(t.Elem()).Elem(), inside...)}
	case kind == reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(reflect.New(t.Elem()).Elem(), inside...)}
	case kind == reflect.Struct && t != reflect.TypeFor[yaml.Node]() && !slices.Contains(inside, t): // once round is enough of a type that contains itself
		return structSchema(v, append(slices.Clip(inside), t))
	}
	return object{}
}

// integerSchema bounds what is narrower than a number in JSON.
func integerSchema(t reflect.Type) object {
	s := object{"type": "integer"}
	switch bits := t.Bits(); {
	case t.Kind() >= reflect.Uint && bits < 64:
		s["minimum"], s["maximum"] = 0, uint64(1)<<bits-1
	case t.Kind() >= reflect.Uint:
		s["minimum"] = 0
	case bits < 64:
		s["minimum"], s["maximum"] = -(int64(1) << (bits - 1)), int64(1)<<(bits-1)-1
	}
	return s
}

func orReference(s object, v reflect.Value) object {
	return object{"anyOf": []object{s, {"$ref": "#/$defs/reference"}}, "default": v.Interface()}
}

func structSchema(v reflect.Value, inside []reflect.Type) object {
	properties := object{}
	for _, f := range fieldsOf(v.Type()) {
		s := schemaOf(v.FieldByIndex(f.index), inside...)
		if doc := f.tag.Get("doc"); doc != "" {
			s["description"] = doc
		}
		if allowed := f.enum(); allowed != nil {
			delete(s, "$ref")
			s["anyOf"] = []object{{"enum": slices.Clone(allowed)}, {"$ref": "#/$defs/reference"}}
		}
		properties[f.name] = s
	}
	return object{"type": "object", "properties": properties, "additionalProperties": false}
}
