package peer;

import com.alipay.sofa.rpc.boot.container.ConsumerConfigContainer;
import com.alipay.sofa.rpc.boot.container.ProviderConfigContainer;
import com.alipay.sofa.rpc.config.ProviderConfig;
import com.alipay.sofa.rpc.config.RegistryConfig;
import com.alipay.sofa.rpc.registry.RegistryFactory;
import com.alipay.sofa.runtime.api.annotation.SofaReference;
import com.alipay.sofa.runtime.api.annotation.SofaReferenceBinding;
import com.alipay.sofa.runtime.api.annotation.SofaService;
import com.alipay.sofa.runtime.api.annotation.SofaServiceBinding;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.WebApplicationType;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;

/** SOFABoot with its RPC starter as it comes: each provider and each reference is an application of its own, with its settings. */
public final class Main extends Lines {
    private final String who;
    private final Map<String, ConfigurableApplicationContext> applications = new ConcurrentHashMap<>();
    private final Map<String, Hello> services = new ConcurrentHashMap<>();

    private Main(String who) {
        this.who = who;
    }

    public static void main(String[] args) throws Exception {
        new Main(args[0]).run();
    }

    @SofaService(bindings = @SofaServiceBinding(bindingType = "bolt"))
    static class Answers implements Hello {
        @Value("${who}")
        private String who;

        @Override
        public String hello(String name) {
            return who + ":" + name;
        }
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Provider {
        @Bean
        Answers answers() {
            return new Answers();
        }
    }

    static class Remote {
        @SofaReference(binding = @SofaReferenceBinding(bindingType = "bolt", timeout = 10000))
        private Hello hello;
    }

    @Configuration(proxyBeanMethods = false)
    @EnableAutoConfiguration
    static class Consumer {
        @Bean
        Remote remote() {
            return new Remote();
        }
    }

    private static ConfigurableApplicationContext start(Class<?> type, List<String> settings) {
        Map<String, String> last = new LinkedHashMap<>(); // of a setting that is given twice the last counts
        for (String s : settings) last.put(s.substring(0, s.indexOf('=')), "--" + s);
        return new SpringApplicationBuilder(type).web(WebApplicationType.NONE).run(last.values().toArray(String[]::new));
    }

    @Override
    Hello service(String name) {
        return services.get(name);
    }

    @Override
    String act(String[] words) {
        List<String> settings = new ArrayList<>(List.of("spring.main.banner-mode=off", "logging.level.root=warn"));
        switch (words[0]) {
            case "export": // NAME REGISTRY PORT [SETTING=VALUE]...
                settings.addAll(List.of("spring.application.name=stock", "com.alipay.sofa.rpc.registry.address=" + words[2], "com.alipay.sofa.rpc.bolt.port=" + words[3],
                        "com.alipay.sofa.rpc.bound.host=127.0.0.1", "com.alipay.sofa.rpc.virtual.host=127.0.0.1", "who=" + who + words[3]));
                settings.addAll(Arrays.asList(words).subList(4, words.length));
                applications.put(words[1], start(Provider.class, settings));
                return "";
            case "retire": // NAME: takes it out of its registry, and serves on
                for (ProviderConfig<?> p : applications.get(words[1]).getBean(ProviderConfigContainer.class).getAllProviderConfig()) {
                    for (RegistryConfig r : p.getRegistry()) RegistryFactory.getRegistry(r).unRegister(p);
                }
                return "";
            case "unexport": // NAME
                applications.remove(words[1]).close();
                return "";
            case "refer": { // NAME REGISTRY [SETTING=VALUE]...
                settings.addAll(List.of("spring.application.name=orders", "com.alipay.sofa.rpc.registry.address=" + words[2]));
                settings.addAll(Arrays.asList(words).subList(3, words.length));
                ConfigurableApplicationContext app = start(Consumer.class, settings);
                applications.put(words[1], app);
                services.put(words[1], app.getBean(Remote.class).hello);
                return "";
            }
            case "entries": // NAME: how many providers the reference has
                return String.valueOf(applications.get(words[1]).getBean(ConsumerConfigContainer.class).getConsumerConfigMap().values().iterator().next()
                        .getConsumerBootstrap().getCluster().getAddressHolder().getAllProviderSize());
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }
}
