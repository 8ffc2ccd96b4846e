package interop

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// What two servers that are the same may answer differently, and how it is masked: ids that they draw, and numbers that
// tell how they work and not what they store. Each has a row in docs/compat.md, "what the differential run masks".

// maskedFields are of no interest: the terms of a member that is alone, its log, the size of its store, its hash of a file.
var maskedFields = map[protoreflect.FullName]bool{
	"etcdserverpb.ResponseHeader.raft_term":        true,
	"etcdserverpb.StatusResponse.dbSize":           true,
	"etcdserverpb.StatusResponse.dbSizeInUse":      true,
	"etcdserverpb.StatusResponse.raftIndex":        true,
	"etcdserverpb.StatusResponse.raftTerm":         true,
	"etcdserverpb.StatusResponse.raftAppliedIndex": true,
	"etcdserverpb.StatusResponse.storageVersion":   true,
	"etcdserverpb.HashResponse.hash":               true,
}

// names are ids and tokens that a server drew, and what they are called here: the first of its kind, the second, …
type names struct {
	ids   map[uint64]uint64
	texts []string // pairs for a strings.Replacer
	drawn uint64
}

func newNames() *names { return &names{ids: map[uint64]uint64{}} }

// firstName is where the names of ids begin: far from whatever sequences choose themselves.
const firstName = 0x5ca1ab1e00000000

// id gives a name to an id.
func (n *names) id(id uint64) {
	if _, known := n.ids[id]; known || id == 0 {
		return
	}
	n.drawn++
	n.ids[id] = firstName + n.drawn
	n.texts = append(n.texts, fmt.Sprintf("%x", id), fmt.Sprintf("%x", firstName+n.drawn),
		fmt.Sprint(id), fmt.Sprint(firstName+n.drawn))
}

// token gives a name to a token.
func (n *names) token(token, user string) {
	n.texts = append(n.texts, token, "<token of "+user+">")
}

// mask replaces what has a name in a text.
func (n *names) mask(text string) string {
	if len(n.texts) == 0 {
		return text
	}
	return strings.NewReplacer(n.texts...).Replace(text)
}

// maskMessage masks fields and numbers of a message, and of those in it.
func (s *talk) maskMessage(message proto.Message) proto.Message {
	s.maskFields(message.ProtoReflect())
	return message
}

func (s *talk) maskFields(message protoreflect.Message) {
	s.maskRemaining(message)
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case maskedFields[field.FullName()]:
			message.Clear(field)
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				s.maskFields(value.List().Get(i).Message())
			}
		case field.IsList() || field.IsMap():
		case field.Message() != nil:
			s.maskFields(value.Message())
		case field.Kind() == protoreflect.Int64Kind:
			if name, known := s.names.ids[uint64(value.Int())]; known {
				message.Set(field, protoreflect.ValueOfInt64(int64(name)))
			}
		case field.Kind() == protoreflect.Uint64Kind:
			if name, known := s.names.ids[value.Uint()]; known {
				message.Set(field, protoreflect.ValueOfUint64(name))
			}
		}
		return true
	})
}

// maskRemaining takes the seconds that are left to a lease for all that it was granted, as long as they can be: no
// sequence takes a minute, and none has leases between a few seconds and minutes.
func (s *talk) maskRemaining(message protoreflect.Message) {
	if message.Descriptor().FullName() != "etcdserverpb.LeaseTimeToLiveResponse" {
		return
	}
	fields := message.Descriptor().Fields()
	left, granted := message.Get(fields.ByName("TTL")).Int(), message.Get(fields.ByName("grantedTTL")).Int()
	if 0 <= left && left <= granted && granted-left <= 60 {
		message.Set(fields.ByName("TTL"), protoreflect.ValueOfInt64(granted))
	}
}

// noteRevision remembers the highest revision that a header named.
func (s *talk) noteRevision(message proto.Message) {
	header := message.ProtoReflect().Descriptor().Fields().ByName("header")
	if header == nil || header.Message() == nil || !message.ProtoReflect().Has(header) {
		return
	}
	inner := message.ProtoReflect().Get(header).Message()
	if field := inner.Descriptor().Fields().ByName("revision"); field != nil {
		s.revision = max(s.revision, inner.Get(field).Int())
	}
}

// isAccepted is whether two answers differ on purpose: who shows nothing is refused by Cairn at the door, before
// anything else is looked at; by etcd, when an entry of the log is applied, and not at all where no key and no user is named.
func isAccepted(question, cairn, etcd string) bool {
	if cairn != "InvalidArgument: etcdserver: user name is empty" {
		return false
	}
	switch etcd {
	case "InvalidArgument: etcdserver: request is too large", "ResourceExhausted: etcdserver: mvcc: database space exceeded", "DataLoss: etcdserver: corrupt cluster":
		return true
	}
	if question == "Auth/UserGet {}" {
		return etcd == "FailedPrecondition: etcdserver: user name not found"
	}
	return strings.HasPrefix(question, "KV/Txn {") && !strings.Contains(question, "key:") && strings.HasPrefix(etcd, "header:")
}
