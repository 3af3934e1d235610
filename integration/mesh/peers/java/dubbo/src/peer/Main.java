package peer;

import java.lang.reflect.Field;
import java.util.HashMap;
import java.util.Map;
import org.apache.dubbo.config.ApplicationConfig;
import org.apache.dubbo.config.ProtocolConfig;
import org.apache.dubbo.config.ReferenceConfig;
import org.apache.dubbo.config.RegistryConfig;
import org.apache.dubbo.config.ServiceConfig;
import org.apache.dubbo.config.bootstrap.DubboBootstrap;
import org.apache.dubbo.rpc.RpcContext;
import org.apache.dubbo.rpc.cluster.ClusterInvoker;
import org.apache.dubbo.rpc.service.GenericService;

/** Dubbo, 2.7 and 3.3, as it comes: a registry is zookeeper://HOST:PORT or N/A, or - for that of the settings, a reference may have a url. */
public final class Main extends Lines {
    private final String who;
    private final Map<String, ServiceConfig<Hello>> providers = new HashMap<>();
    private final Map<String, Hello> services = new HashMap<>();
    private final Map<String, ReferenceConfig<Hello>> references = new HashMap<>();
    private int timeout = 5000; // ms, of references

    private Main(String who) {
        this.who = who;
        ApplicationConfig app = new ApplicationConfig("dubbo-" + who);
        app.setQosEnable(false);
        DubboBootstrap.getInstance().application(app);
    }

    public static void main(String[] args) throws Exception {
        new Main(args[0]).run();
    }

    @Override
    Hello service(String name) {
        return services.get(name);
    }

    private <T> ReferenceConfig<T> reference(String[] words) {
        ReferenceConfig<T> r = new ReferenceConfig<>();
        r.setInterface(Hello.class.getName());
        r.setRegistry(new RegistryConfig(words[2]));
        r.setCheck(false);
        r.setTimeout(timeout);
        r.setRetries(0);
        if (words.length > 3) r.setUrl(words[3]);
        return r;
    }

    @Override
    String act(String[] words) throws Exception {
        switch (words[0]) {
            case "set": // KEY VALUE: as -DKEY=VALUE would
                System.setProperty(words[1], words[2]);
                return "";
            case "export": { // NAME REGISTRY PORT
                int port = Integer.parseInt(words[3]);
                ServiceConfig<Hello> s = new ServiceConfig<>();
                s.setInterface(Hello.class);
                s.setRef(n -> n.equals("attached") ? String.valueOf(RpcContext.getContext().getAttachment("x-set")) : answer(who + port, n));
                if (!words[2].equals("-")) s.setRegistry(new RegistryConfig(words[2]));
                s.setProtocol(new ProtocolConfig("dubbo", port));
                s.export();
                providers.put(words[1], s);
                return "";
            }
            case "unexport": // NAME
                providers.remove(words[1]).unexport();
                return "";
            case "refer": { // NAME REGISTRY [URL]
                ReferenceConfig<Hello> r = reference(words);
                services.put(words[1], r.get());
                references.put(words[1], r);
                return "";
            }
            case "entries": { // NAME: how many providers the reference has
                Field invoker = ReferenceConfig.class.getDeclaredField("invoker"); // nothing public tells it in both versions
                invoker.setAccessible(true);
                return String.valueOf(((ClusterInvoker<?>) invoker.get(references.get(words[1]))).getDirectory().getAllInvokers().size());
            }
            case "generic": { // METHOD REGISTRY URL ARGUMENT: without the interface's class
                ReferenceConfig<GenericService> r = reference(words);
                r.setGeneric("true");
                return String.valueOf(r.get().$invoke(words[1], new String[] {"java.lang.String"}, new Object[] {words[4]}));
            }
            case "attached": // NAME VALUE: what the provider has got as the attachment x-set
                RpcContext.getContext().setAttachment("x-set", words[2]);
                return services.get(words[1]).hello("attached");
            case "oneway": // NAME ARGUMENT
                RpcContext.getContext().asyncCall(() -> services.get(words[1]).hello(words[2]));
                return "";
            case "timeout": // MS: of references that are made from now on
                timeout = Integer.parseInt(words[1]);
                return "";
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }
}
