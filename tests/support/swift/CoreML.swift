// The part of Core ML that edgeq's Swift files use, after the declarations of its documentation and
// of the headers for iOS 18: of an MLModel, nothing there says that it is Sendable; an MLState is.

import CoreGraphics
import CoreVideo
import Foundation

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine
}

public class MLModelConfiguration {
    public var computeUnits = MLComputeUnits.all

    public init() {}
}

public protocol MLShapedArrayScalar {}
extension Float16: MLShapedArrayScalar {}
extension Float: MLShapedArrayScalar {}
extension Double: MLShapedArrayScalar {}
extension Int32: MLShapedArrayScalar {}

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public let scalars: [Scalar]
    public let shape: [Int]

    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar {
        self.scalars = Array(scalars)
        self.shape = shape
    }
}

extension MLShapedArray: Sendable where Scalar: Sendable {}

public class MLFeatureValue {
    public enum ImageOption: Hashable, Sendable {
        case cropAndScale
    }

    public init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) {}
    public init(pixelBuffer: CVPixelBuffer) {}
    public init(
        cgImage: CGImage, pixelsWide: Int, pixelsHigh: Int, pixelFormatType: UInt32,
        options: [ImageOption: Any]?
    ) throws {}

    public var imageBufferValue: CVPixelBuffer? { nil }
    public var stringValue: String { "" }
    public var dictionaryValue: [AnyHashable: NSNumber] { [:] }

    public func shapedArrayValue<Scalar: MLShapedArrayScalar>(of type: Scalar.Type)
        -> MLShapedArray<Scalar>?
    { nil }
}

public protocol MLFeatureProvider: AnyObject {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public class MLDictionaryFeatureProvider: MLFeatureProvider {
    public let featureNames: Set<String> = []

    public init(dictionary: [String: Any]) throws {}

    public func featureValue(for featureName: String) -> MLFeatureValue? { nil }
}

public final class MLState: @unchecked Sendable {}

public class MLModel {
    init() {}

    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel { MLModel() }
    public class func compileModel(at modelURL: URL) async throws -> URL { modelURL }

    public func makeState() -> MLState { MLState() }

    public func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider { input }
    public func prediction(from input: MLFeatureProvider, using state: MLState) throws
        -> MLFeatureProvider
    { input }
}

// Objective-C's, which Foundation of Apple's systems brings along.
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result {
    try body()
}
