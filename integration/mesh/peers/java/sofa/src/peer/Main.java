package peer;

import com.alipay.sofa.rpc.api.future.SofaResponseFuture;
import com.alipay.sofa.rpc.config.ApplicationConfig;
import com.alipay.sofa.rpc.config.ConsumerConfig;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.config.ServerConfig;
import com.alipay.sofa.rpc.context.RpcInvokeContext;
import com.alipay.sofa.rpc.core.exception.RpcErrorType;
import com.alipay.sofa.rpc.core.exception.SofaRpcException;
import com.alipay.sofa.rpc.core.invoke.SofaResponseCallback;
import com.alipay.sofa.rpc.core.request.RequestBase;
import com.alipay.sofa.rpc.registry.RegistryFactory;
import com.google.protobuf.StringValue;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** SOFARPC as it comes: a registry is an address, zookeeper://HOST:PORT or mesh://HOST:PORT, nacos://HOST:PORT, or none. */
public final class Main extends Lines {
    private final String who;
    private final Map<String, ProviderConfig<Hello>> providers = new HashMap<>();
    private final Map<String, ConsumerConfig<Hello>> consumers = new HashMap<>();
    private final Map<String, Hello> services = new HashMap<>();

    private String invokeType; // of references; null: as the framework has it
    private int timeout = 5000; // ms, of references
    private String unique = ""; // of services and references; empty: none
    private Say messages; // the last reference of messages of protobuf

    /** Say is called with messages of protobuf. */
    public interface Say {
        StringValue say(StringValue what);
    }

    private Main(String who) {
        this.who = who;
    }

    public static void main(String[] args) throws Exception {
        new Main(args[0]).run();
    }

    private static RegistryConfig registry(String address) {
        String[] parts = address.split("://");
        if (parts.length < 2) return null; // none
        return new RegistryConfig().setProtocol(parts[0]).setAddress(parts[0].equals("mesh") ? "http://" + parts[1] : parts[1]).setParameter("preferLocalFile", "false");
    }

    @Override
    Hello service(String name) {
        return services.get(name);
    }

    /** said answers a message; one that begins with "inner" throws what it would if it called a service that is gone, of which nothing but the text is sent. */
    private String said(String text) {
        if (text.startsWith("inner")) {
            answer(who, text);
            throw new SofaRpcException(RpcErrorType.SERVER_NOT_FOUND_INVOKER, "RPC-020100010: RPC cannot find service: [peer.Inner:1.0]");
        }
        return who + " " + text;
    }

    /** called makes a call whose answer goes to a callback, and waits for that. */
    private static String called(Hello service, String n) throws Exception {
        CompletableFuture<String> answer = new CompletableFuture<>();
        RpcInvokeContext.getContext().setResponseCallback(new SofaResponseCallback<String>() {
            @Override
            public void onAppResponse(Object value, String method, RequestBase request) {
                answer.complete((String) value);
            }

            @Override
            public void onAppException(Throwable e, String method, RequestBase request) {
                answer.complete("application " + e.getMessage());
            }

            @Override
            public void onSofaException(SofaRpcException e, String method, RequestBase request) {
                answer.complete("framework " + e.getMessage());
            }
        });
        service.hello(n);
        return answer.get(10, TimeUnit.SECONDS);
    }

    @Override
    String act(String[] words) throws Exception {
        ApplicationConfig app = new ApplicationConfig().setAppName("sofa-" + who);
        switch (words[0]) {
            case "export": { // NAME REGISTRY PORT [PORT]: the second is the one that it registers
                int port = Integer.parseInt(words[3]);
                String called = unique + who + port;
                ServerConfig server = new ServerConfig().setProtocol("bolt").setHost("127.0.0.1").setPort(port).setDaemon(false);
                if (words.length > 4) server.setVirtualHost("127.0.0.1").setVirtualPort(Integer.parseInt(words[4]));
                ProviderConfig<Hello> p = new ProviderConfig<Hello>().setApplication(app).setInterfaceId(Hello.class.getName()).setRef(n -> answer(called, n))
                        .setServer(server).setRepeatedExportLimit(-1);
                if (!unique.isEmpty()) p.setUniqueId(unique);
                if (registry(words[2]) == null) p.setRegister(false);
                else p.setRegistry(registry(words[2]));
                p.export();
                providers.put(words[1], p);
                return "";
            }
            case "retire": // NAME: takes it out of its registry, and serves on
                ProviderConfig<Hello> goes = providers.get(words[1]);
                for (RegistryConfig r : goes.getRegistry()) RegistryFactory.getRegistry(r).unRegister(goes);
                return "";
            case "unexport": // NAME
                providers.remove(words[1]).unExport();
                return "";
            case "refer": { // NAME REGISTRY [URL]
                ConsumerConfig<Hello> c = new ConsumerConfig<Hello>().setApplication(app).setInterfaceId(Hello.class.getName()).setProtocol("bolt")
                        .setRepeatedReferLimit(-1).setTimeout(timeout).setAddressWait(10000);
                if (!unique.isEmpty()) c.setUniqueId(unique);
                if (words.length > 3) c.setDirectUrl(words[3]).setSubscribe(false);
                else c.setRegistry(registry(words[2]));
                if (invokeType != null) c.setInvokeType(invokeType);
                services.put(words[1], c.refer());
                consumers.put(words[1], c);
                return "";
            }
            case "invoke": // TYPE: how references that are made from now on call: sync, oneway, future, callback
                invokeType = words[1];
                return "";
            case "timeout": // MS: of references that are made from now on
                timeout = Integer.parseInt(words[1]);
                return "";
            case "unique": // [ID]: of services and references that are made from now on
                unique = words.length > 1 ? words[1] : "";
                return "";
            case "messages": { // export REGISTRY PORT, refer REGISTRY [URL], or say TEXT: a service whose messages are protobuf
                if (words[1].equals("say")) return messages.say(StringValue.of(words[2])).getValue();
                if (words[1].equals("refer")) {
                    ConsumerConfig<Say> c = new ConsumerConfig<Say>().setApplication(app).setInterfaceId(Say.class.getName()).setProtocol("bolt").setSerialization("protobuf")
                            .setTimeout(5000).setAddressWait(10000);
                    if (words.length > 3) c.setDirectUrl(words[3]).setSubscribe(false);
                    else c.setRegistry(registry(words[2]));
                    messages = c.refer();
                    return "";
                }
                ServerConfig server = new ServerConfig().setProtocol("bolt").setHost("127.0.0.1").setPort(Integer.parseInt(words[3])).setDaemon(false);
                new ProviderConfig<Say>().setApplication(app).setInterfaceId(Say.class.getName()).setRef(v -> StringValue.of(said(v.getValue())))
                        .setServer(server).setRegistry(registry(words[2])).export();
                return "";
            }
            case "future": // NAME ARGUMENT: a call of a reference whose type that is
                services.get(words[1]).hello(words[2]);
                return (String) SofaResponseFuture.getResponse(10000, true);
            case "callback": // NAME ARGUMENT
                return called(services.get(words[1]), words[2]);
            case "entries": // NAME: how many providers the reference has
                return String.valueOf(consumers.get(words[1]).getConsumerBootstrap().getCluster().getAddressHolder().getAllProviderSize());
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }
}
