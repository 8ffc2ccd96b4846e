package interop

import (
	"context"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestMetricFamilies compares what both servers measure after the same traffic: every family of etcd's is one of
// Cairn's, of the same kind, or has its name in the list of docs/compat.md; and nothing is in that list in vain.
func TestMetricFamilies(t *testing.T) {
	t.Parallel()
	families := map[string]map[string]string{}
	for _, kind := range []string{"cairn", "etcd"} {
		s := start(t, kind, t.TempDir(), "--metrics=extensive")
		traffic(t, s)
		families[kind] = kinds(t, s)
	}
	accepted := acceptedDifferences(t)
	for _, name := range sorted(families["etcd"]) {
		if strings.HasPrefix(name, "go_") {
			continue
		}
		is, served := families["cairn"][name]
		switch {
		case !served && !accepted[name]:
			t.Errorf("%s is missing, and docs/compat.md does not say so", name)
		case served && is != families["etcd"][name]:
			t.Errorf("%s is a %s, in etcd a %s", name, is, families["etcd"][name])
		case served && accepted[name]:
			t.Errorf("%s is there, and docs/compat.md says that it is not", name)
		}
	}
	for name := range accepted {
		if _, known := families["etcd"][name]; !known {
			t.Errorf("docs/compat.md lists %s, which etcd does not have either", name)
		}
	}
}

// TestCallsAreCountedAlike compares numbers that dashboards are made of.
func TestCallsAreCountedAlike(t *testing.T) {
	both(t, func(t *testing.T, s *server) {
		traffic(t, s)
		text := metricsOf(t, s)
		for _, line := range []string{
			`grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2`,
			`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2`,
			`grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0`,
			`grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 2`,
			`etcd_server_has_leader 1`,
			`etcd_server_is_leader 1`,
			`etcd_server_version{server_version="3.7.3"} 1`,
			`etcd_cluster_version{cluster_version="3.7"} 1`,
			`etcd_debugging_mvcc_keys_total 1`,
			`etcd_server_proposals_failed_total 0`,
		} {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("%s is not among the metrics", line)
			}
		}
	})
}

func traffic(t *testing.T, s *server) {
	t.Helper()
	client := s.client(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	watch := client.Watch(ctx, "a")
	_, err := client.Put(ctx, "a", "1")
	check(t, err)
	<-watch
	_, err = client.Put(ctx, "b", "1")
	check(t, err)
	_, err = client.Get(ctx, "a")
	check(t, err)
	_, err = client.Delete(ctx, "b")
	check(t, err)
	_, err = client.Txn(ctx).Then(clientv3.OpGet("a")).Commit()
	check(t, err)
	lease, err := client.Grant(ctx, 60)
	check(t, err)
	_, err = client.KeepAliveOnce(ctx, lease.ID)
	check(t, err)
	_, err = http.Get("http://" + s.endpoint + "/readyz")
	check(t, err)
}

func metricsOf(t *testing.T, s *server) string {
	t.Helper()
	answer, err := http.Get("http://" + s.endpoint + "/metrics")
	check(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	return "\n" + string(text)
}

func kinds(t *testing.T, s *server) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, line := range strings.Split(metricsOf(t, s), "\n") {
		if rest, is := strings.CutPrefix(line, "# TYPE "); is {
			name, kind, _ := strings.Cut(rest, " ")
			found[name] = kind
		}
	}
	return found
}

// acceptedDifferences reads the names between two marks of the document.
func acceptedDifferences(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../../docs/compat.md")
	check(t, err)
	_, rest, begins := strings.Cut(string(text), "<!-- metrics of etcd that are not here -->")
	list, _, ends := strings.Cut(rest, "<!-- end of metrics of etcd that are not here -->")
	if !begins || !ends {
		t.Fatal("docs/compat.md has no list of metrics that are not here")
	}
	accepted := map[string]bool{}
	for number, part := range strings.Split(list, "`") {
		if number%2 == 1 {
			accepted[part] = true
		}
	}
	return accepted
}

func sorted(families map[string]string) []string {
	names := make([]string, 0, len(families))
	for name := range families {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
