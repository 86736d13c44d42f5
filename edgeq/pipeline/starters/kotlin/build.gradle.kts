plugins {
    id("com.android.application") version "8.13.0"
    id("org.jetbrains.kotlin.android") version "2.2.20"
}

android {
    namespace = "com.example.starter"
    compileSdk = 36
    defaultConfig {
        applicationId = "com.example.starter"
        minSdk = 26
        targetSdk = 36
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }
    // Compressed assets cannot be mapped.
    androidResources { noCompress += "" }
    // Libraries for desktops, in the tokenizer's package.
    packaging { resources.excludes += "native/lib/**" }
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.30.0")
    implementation("org.jetbrains.kotlinx:kotlinx-coroutines-android:1.10.2")
