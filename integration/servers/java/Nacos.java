import com.alibaba.nacos.core.code.ControllerMethodsCache;
import com.alibaba.nacos.sys.filter.NacosTypeExcludeFilter;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.AutoConfigurationExcludeFilter;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.context.TypeExcludeFilter;
import org.springframework.boot.web.servlet.ServletComponentScan;
import org.springframework.context.annotation.ComponentScan;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.FilterType;
import org.springframework.scheduling.annotation.EnableScheduling;

/** Starts configuration, naming and authentication of the real server in one virtual machine, without its console. */
@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
@EnableScheduling
@ServletComponentScan("com.alibaba.nacos")
@ComponentScan(basePackages = "com.alibaba.nacos", excludeFilters = {
        @ComponentScan.Filter(type = FilterType.CUSTOM, classes = NacosTypeExcludeFilter.class),
        @ComponentScan.Filter(type = FilterType.CUSTOM, classes = TypeExcludeFilter.class),
        @ComponentScan.Filter(type = FilterType.CUSTOM, classes = AutoConfigurationExcludeFilter.class)})
public class Nacos {
    /** Makes the methods known whose callers are asked who they are: the console does so otherwise. */
    public Nacos(ControllerMethodsCache methods) {
        for (String part : new String[] {"core.controller", "naming.controllers", "config.server.controller"}) {
            methods.initClassMethod("com.alibaba.nacos." + part);
        }
    }

    public static void main(String[] args) {
        SpringApplication.run(Nacos.class, args);
    }
}
